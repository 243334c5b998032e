"""Results of tools as an agent gets them: JSON and logs, made up, the same in every run.

Each set of texts (fit, learn, held_out) has shapes of its own, so that nothing is learned by
heart.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

FIRST = (
    "Amina",
    "Björn",
    "Chiara",
    "Dmitri",
    "Elena",
    "Farid",
    "Grace",
    "Hiroshi",
    "Ivana",
    "João",
)
LAST = ("Okafor", "Lindqvist", "Romano", "Novak", "Schmidt", "Haddad", "Turner", "Sato", "Petrov")
CITIES = ("Lisbon", "Osaka", "Montréal", "Nairobi", "Leipzig", "Austin", "Perth", "Kraków")
NOUNS = ("cache", "invoice", "session", "webhook", "scheduler", "upload", "profile", "export")
VERBS = ("fails", "is slow", "times out", "returns the wrong total", "loses its filter", "loops")
PLACES = ("after an upgrade", "on Safari", "for large accounts", "behind a proxy", "at midnight")


def hexed(rng: Random, length: int) -> str:
    return "".join(rng.choices("0123456789abcdef", k=length))


def uuid(rng: Random) -> str:
    return "-".join(hexed(rng, n) for n in (8, 4, 4, 4, 12))


def moment(rng: Random) -> datetime:
    return datetime(2026, 1, 1) + timedelta(milliseconds=rng.randrange(27_000_000_000))


def people(rng: Random) -> str:
    """A directory's entries, on one line."""
    rows = [
        {
            "id": rng.randrange(10_000, 99_999),
            "name": f"{rng.choice(FIRST)} {rng.choice(LAST)}",
            "email": f"{rng.choice(LAST).lower()}{rng.randrange(100)}@example.org",
            "city": rng.choice(CITIES),
            "active": rng.random() < 0.8,
            "balance": round(rng.uniform(-50, 4000), 2),
            "tags": rng.sample(("vip", "trial", "newsletter", "partner"), 2),
        }
        for _ in range(14)
    ]
    return json.dumps({"count": len(rows), "results": rows}, ensure_ascii=False)


def events(rng: Random) -> str:
    """A trace's events, indented, with ids and times."""
    rows = [
        {
            "eventId": uuid(rng),
            "traceId": hexed(rng, 32),
            "occurredAt": moment(rng).isoformat(timespec="milliseconds") + "Z",
            "kind": rng.choice(("http.request", "db.query", "queue.publish")),
            "durationMs": round(rng.expovariate(1 / 40), 3),
            "attributes": {"status": rng.choice((200, 204, 404, 503)), "retries": rng.randrange(4)},
        }
        for _ in range(8)
    ]
    return json.dumps(rows, indent=2)


def issues(rng: Random) -> str:
    """A search in a tracker: sentences and links in JSON."""
    rows = [
        {
            "number": rng.randrange(100, 9999),
            "title": f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} {rng.choice(PLACES)}",
            "state": rng.choice(("open", "closed")),
            "labels": rng.sample(("bug", "regression", "needs-info", "performance"), 2),
            "comments": rng.randrange(30),
            "html_url": f"https://tracker.example.com/acme/shop/issues/{rng.randrange(9999)}",
            "updated_at": moment(rng).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "user": {"login": rng.choice(LAST).lower(), "site_admin": False},
        }
        for _ in range(7)
    ]
    return json.dumps({"total_count": 231, "incomplete_results": False, "items": rows}, indent=2)


def forecast(rng: Random) -> str:
    """Columns of numbers, compact."""
    hours = range(36)
    return json.dumps(
        {
            "latitude": 52.52,
            "longitude": 13.41,
            "timezone": "Europe/Berlin",
            "hourly": {
                "time": [f"2026-11-{3 + h // 24:02}T{h % 24:02}:00" for h in hours],
                "temperature_2m": [round(rng.gauss(6, 4), 1) for _ in hours],
                "relative_humidity": [rng.randrange(40, 100) for _ in hours],
                "wind_speed_10m": [round(rng.expovariate(1 / 11), 1) for _ in hours],
            },
        },
        separators=(",", ":"),
    )


def pods(rng: Random) -> str:
    """What a cluster says of its pods: deep, with long names."""
    rows = [
        {
            "metadata": {
                "name": f"{rng.choice(NOUNS)}-worker-{hexed(rng, 9)}-{hexed(rng, 5)}",
                "namespace": rng.choice(("production", "staging")),
                "uid": uuid(rng),
                "creationTimestamp": moment(rng).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "spec": {
                "nodeName": f"ip-10-0-{rng.randrange(256)}-{rng.randrange(256)}",
                "containers": [
                    {
                        "image": f"registry.example.com/{rng.choice(NOUNS)}:1.{rng.randrange(40)}.0",
                        "imagePullPolicy": "IfNotPresent",
                        "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}},
                    }
                ],
            },
            "status": {
                "phase": rng.choice(("Running", "Pending", "Failed")),
                "podIP": f"10.244.{rng.randrange(256)}.{rng.randrange(256)}",
                "restartCount": rng.randrange(9),
            },
        }
        for _ in range(5)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "PodList", "items": rows}, indent=4)


def products(rng: Random) -> str:
    """A shop's catalogue with Chinese values, as it stands on the wire."""
    names = ("不锈钢保温杯", "无线蓝牙耳机", "纯棉毛巾三条装", "便携式充电宝", "折叠雨伞")
    rows = [
        {
            "sku": f"SKU-{rng.randrange(100_000, 999_999)}",
            "名称": rng.choice(names),
            "price": {"amount": f"{rng.uniform(9, 399):.2f}", "currency": "CNY"},
            "stock": rng.randrange(500),
            "description": "七天无理由退货，全国包邮",
            "rating": round(rng.uniform(3, 5), 1),
        }
        for _ in range(10)
    ]
    return json.dumps({"code": 0, "message": "ok", "data": {"list": rows}}, ensure_ascii=False)


def ids(rng: Random) -> str:
    """Names that machines give: hashes, keys, addresses and times, in every spelling."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    makers: tuple[Callable[[], str], ...] = (
        lambda: uuid(rng),
        lambda: hexed(rng, rng.choice((7, 12, 40, 64))),
        lambda: f"0x{hexed(rng, 16)}",
        lambda: ":".join(hexed(rng, 2) for _ in range(6)),
        lambda: "sk_" + "".join(rng.choices(letters, k=24)),
        lambda: "".join(rng.choices(letters[:26] + "0123456789", k=26)),
        lambda: f"{rng.randrange(256)}.{rng.randrange(256)}.0.{rng.randrange(256)}:8080",
        lambda: moment(rng).isoformat(),
        lambda: f"{moment(rng).timestamp():.3f}",
        lambda: f"v{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(9)}-rc{rng.randrange(9)}",
    )
    rows = (
        f"{rng.choice(NOUNS)}: {', '.join(m() for m in rng.sample(makers, 3))}" for _ in "x" * 20
    )
    return "\n".join(rows)


def server_log(rng: Random) -> str:
    """Lines of a web server, in its classic shape."""
    paths = ("/", "/login", "/api/v1/orders?page=2", "/static/app.4f3a2c.js", "/favicon.ico")
    return "\n".join(
        f"{rng.randrange(1, 255)}.{rng.randrange(255)}.{rng.randrange(255)}.{rng.randrange(255)}"
        f" - - [{moment(rng):%d/%b/%Y:%H:%M:%S} +0000]"
        f' "{rng.choice(("GET", "POST"))} {rng.choice(paths)} HTTP/1.1"'
        f' {rng.choice((200, 301, 404, 500))} {rng.randrange(90_000)} "-" "Mozilla/5.0 (X11; Linux)"'
        for _ in range(25)
    )


def service_log(rng: Random) -> str:
    """Lines of a service: level, module, sentence, keys and values."""
    levels = ("INFO", "WARNING", "ERROR", "DEBUG")
    return "\n".join(
        f"{moment(rng).isoformat(sep=' ', timespec='milliseconds')} [{rng.choice(levels):7}]"
        f" shop.{rng.choice(NOUNS)}.{rng.choice(('worker', 'api'))}:"
        f" {rng.choice(NOUNS)} {rng.choice(VERBS)} {rng.choice(PLACES)}"
        f" request_id={hexed(rng, 12)} elapsed={rng.uniform(0, 9):.3f}s attempt={rng.randrange(5)}"
        for _ in range(20)
    )


def kernel_log(rng: Random) -> str:
    """Lines of a system's journal, with addresses and a trace of calls."""
    calls = ("schedule", "do_syscall_64", "ext4_writepages", "tcp_sendmsg", "futex_wait_queue")
    lines = []
    for number in range(9):
        lines.append(
            f"Nov {rng.randrange(1, 30):2} {rng.randrange(24):02}:{rng.randrange(60):02}:07 db-{number}"
            f" kernel: [{rng.uniform(1e4, 9e5):.6f}] INFO: task postgres:{rng.randrange(99999)}"
            f" blocked for more than 120 seconds."
        )
        lines += [
            f"  [<ffffffff{hexed(rng, 8)}>] ? {name}+0x{hexed(rng, 2)}/0x{hexed(rng, 3)}"
            for name in rng.sample(calls, 2)
        ]
    return "\n".join(lines)


RECORDS: dict[str, dict[str, Callable[[Random], str]]] = {
    "fit": {
        "json.people": people,
        "json.events": events,
        "log.server": server_log,
        "json.numbers": forecast,
        "ids.mixed": ids,
    },
    "learn": {"json.people": people, "json.events": events, "log.server": server_log},
    "held_out": {
        "json.issues": issues,
        "json.pods": pods,
        "json.products": products,
        "log.service": service_log,
        "log.kernel": kernel_log,
    },
}
