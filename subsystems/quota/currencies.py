"""The currencies there are (ISO 4217), and what one is in another, where somebody has said so."""

from collections.abc import Mapping

CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL "
    "GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF "
    "KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN "
    "MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD "
    "SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH "
    "UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG"
)
CURRENCIES = frozenset(CODES.split())


def checked(code: str) -> str:
    """The code as it is. Raises ValueError for what is no currency."""
    if code not in CURRENCIES:
        raise ValueError(f"{code!r} is no currency; write its ISO 4217 code, for example EUR")
    return code


class Exchange:
    """Rates as "USD/EUR" = 0.92: one dollar is 0.92 euros. None is made up."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        """Raises ValueError."""
        self._rates: dict[tuple[str, str], float] = {}
        for pair, rate in rates.items():
            one, _, other = pair.partition("/")
            if rate <= 0:
                raise ValueError(f"rates: {pair} must be more than 0, it is {rate}")
            self._rates[checked(one), checked(other)] = rate
            self._rates.setdefault((other, one), 1 / rate)

    def rate(self, of: str, to: str) -> float | None:
        """What one unit is worth in the other currency; None where nobody has said so."""
        return 1.0 if of == to else self._rates.get((of, to))
