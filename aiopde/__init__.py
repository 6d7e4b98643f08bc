"""
Entries that can be removed while they are being read: Linux procfs for async Python.

Its parts are loaded when the first of them is asked for: for its plugin, pytest imports this
package in every run where it is installed, and most of these have no other use for it.
"""

TYPE_CHECKING = False  # what typing has; to import that would take longer than all of this

if TYPE_CHECKING:
    from ._api import *  # noqa: F403
    from ._api import __all__ as __all__
else:
    del TYPE_CHECKING

    def __getattr__(name: str) -> object:
        if name == "__all__" or not name.startswith("_"):
            _load()
        try:
            return globals()[name]
        except KeyError:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg) from None

    def __dir__() -> list[str]:
        _load()
        return list(globals())

    def _load() -> None:
        from . import _api

        globals().update({name: getattr(_api, name) for name in ("__all__", *_api.__all__)})
