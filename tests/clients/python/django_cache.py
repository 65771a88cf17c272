"""Django's own cache backend for Redis, and its sessions in that cache."""

import django
from django.conf import settings
from django.core.cache import cache, caches

from scenario import URL, raises, until

settings.configure(
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": URL, "KEY_PREFIX": "app"},
        "other": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{URL}/1", "TIMEOUT": None},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=["django.contrib.sessions"],
)
django.setup()


def sessions():
    from django.contrib.sessions.backends.cache import SessionStore

    session = SessionStore()
    session["user"] = {"id": 7}
    session.save()
    assert SessionStore(session.session_key)["user"] == {"id": 7}
    session.cycle_key()
    session.delete()
    assert not session.exists(session.session_key)


def main():
    cache.set("k", {"a": [1, 2.5, "ü", None]}, 60)
    assert cache.get("k") == {"a": [1, 2.5, "ü", None]} and cache.get("none", "default") == "default"
    assert cache.add("k", 1) is False and cache.add("new", 1) is True and "new" in cache
    assert cache.incr("new", 41) == 42 and cache.decr("new") == 41 and raises(ValueError, lambda: cache.incr("none"))
    assert cache.set_many({f"m{n}": n for n in range(50)}, 60) == []
    assert cache.get_many([f"m{n}" for n in range(50)] + ["none"]) == {f"m{n}": n for n in range(50)}
    assert cache.touch("k", 100) is True and cache.touch("none") is False
    assert cache.get_or_set("computed", lambda: "once", 60) == "once" and cache.get("computed") == "once"
    cache.set("short", 1, 0.05)
    until(lambda: cache.get("short") is None, "the end of the key")
    assert cache.incr_version("computed") == 2 and cache.get("computed", version=2) == "once"
    cache.delete_many(["m0", "m1"])
    assert cache.delete("k") is True and cache.delete("k") is False and cache.has_key("m2")
    caches["other"].set("k", "kept")
    sessions()
    cache.clear()
    assert cache.get("m2") is None and caches["other"].get("k") == "kept"
    print("ok")


main()
