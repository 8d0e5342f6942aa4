"""Who somebody is: by a login, never by an environment variable."""

import os
import pwd


def of_process() -> str:
    """Returns who runs this process, as a name that no person can have: `os:` and the user whom the system knows."""
    try:
        return f"os:{pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"os:{os.geteuid()}"
