"""redis-py and ACLs: users with keys, channels, commands and selectors; what they may not do, in scripts too; the log."""

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from scenario import HOST, PORT, raises


def main():
    admin = redis.Redis(HOST, PORT, decode_responses=True)
    assert admin.acl_setuser(
        "app",
        enabled=True,
        passwords=["+secret"],
        categories=["+@read", "+@write", "+@connection", "+@scripting", "-@dangerous"],
        commands=["+publish", "-del"],
        keys=["app:*"],
        channels=["news"],
    )
    assert admin.acl_whoami() == "default" and set(admin.acl_users()) == {"default", "app"}
    user = admin.acl_getuser("app")
    assert user["enabled"] and user["keys"] == ["~app:*"] and user["channels"] == ["&news"], user
    once = Retry(NoBackoff(), 0)
    stranger = redis.Redis(HOST, PORT, username="app", password="wrong", retry=once)
    assert raises(redis.AuthenticationError, stranger.ping)
    for protocol in (2, 3):
        app = redis.Redis(HOST, PORT, username="app", password="secret", protocol=protocol, decode_responses=True)
        refused = lambda call: raises(NoPermissionError, call)
        assert app.set("app:1", "v") and app.get("app:1") == "v" and app.publish("news", "x") == 0
        assert refused(lambda: app.get("other")) and refused(lambda: app.mget("app:1", "other"))
        assert refused(lambda: app.delete("app:1")) and refused(app.flushall)
        assert refused(lambda: app.config_get("port")) and refused(lambda: app.publish("other", "x"))
        assert app.eval("return redis.call('GET', KEYS[1])", 1, "app:1") == "v"
        assert refused(lambda: app.eval("return 1", 1, "other"))
        assert raises(redis.ResponseError, lambda: app.eval("return redis.call('DEL', KEYS[1])", 1, "app:1"))
        assert app.eval("return tostring(redis.acl_check_cmd('get', 'other'))", 0) == "false"
    log = admin.acl_log()
    assert {"command", "key", "channel", "auth"} <= {entry["reason"] for entry in log}, log
    assert admin.acl_log_reset() and admin.acl_dryrun("app", "GET", "app:1") == "OK"
    assert "has no permissions" in admin.acl_dryrun("app", "GET", "other")
    assert len(admin.acl_genpass()) == 64 and "read" in admin.acl_cat() and "get" in admin.acl_cat("read")
    assert admin.execute_command("ACL", "SETUSER", "app", "(%R~shared:* +get)") == "OK"
    app = redis.Redis(HOST, PORT, username="app", password="secret", decode_responses=True, retry=once)
    assert app.get("shared:1") is None and raises(NoPermissionError, lambda: app.set("shared:1", "v"))
    assert admin.acl_deluser("app") == 1 and raises(redis.ConnectionError, app.ping)
    print("ok")


main()
