"""A human who allows everything: opens the address and follows where it leads."""

import sys
import urllib.request

urllib.request.urlopen(sys.argv[1], timeout=10).read()
