"""What `helm test` asks: does the operator answer through its Service, and is it ready?"""

import sys
import time
import urllib.request

ATTEMPTS = 20


def ask(url: str) -> str:
    """Return what an address answers with status 200.

    Raises:
        OSError: It does not answer, or with another status.
    """
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def wait_for(url: str, line: str) -> bool:
    """Tell whether an address came to answer with a line that begins as expected."""
    problem = ""
    for attempt in range(ATTEMPTS):
        time.sleep(2 if attempt else 0)
        try:
            said = ask(url)
        except OSError as error:
            problem = str(error)
        else:
            if any(each.startswith(line) for each in said.splitlines()):
                print(f"{url}: as expected")
                return True
            problem = said[:300]
    print(f"{url}: no line {line!r}, but: {problem}")
    return False


READY = wait_for(f"{sys.argv[1]}/readyz", "ok")
METRICS = wait_for(f"{sys.argv[1]}/metrics", "dspy_operator_build_info")
sys.exit(0 if READY and METRICS else 1)
