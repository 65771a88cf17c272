// hiredis: commands one by one and in a pipeline, over TCP and a Unix socket, replies of every kind, pub/sub.

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) \
    if (!(what)) { fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what); exit(1); }

static redisReply *expect(redisReply *reply, int type, const char *text, long long integer) {
    CHECK(reply != NULL && reply->type == type);
    CHECK(text == NULL || (reply->len == strlen(text) && memcmp(reply->str, text, reply->len) == 0));
    CHECK(type != REDIS_REPLY_INTEGER || reply->integer == integer);
    return reply;
}

static void use(redisContext *c) {
    CHECK(c != NULL && c->err == 0);
    freeReplyObject(expect(redisCommand(c, "SET %s %b", "bin", "a\0b", (size_t)3), REDIS_REPLY_STATUS, "OK", 0));
    redisReply *reply = expect(redisCommand(c, "GET bin"), REDIS_REPLY_STRING, NULL, 0);
    CHECK(reply->len == 3 && memcmp(reply->str, "a\0b", 3) == 0);
    freeReplyObject(reply);
    freeReplyObject(expect(redisCommand(c, "GET none"), REDIS_REPLY_NIL, NULL, 0));
    reply = redisCommand(c, "INCR bin");
    freeReplyObject(expect(reply, REDIS_REPLY_ERROR, "ERR value is not an integer or out of range", 0));
    for (int n = 0; n < 10000; n++) redisAppendCommand(c, "RPUSH l %d", n);
    for (int n = 0; n < 10000; n++) {
        CHECK(redisGetReply(c, (void **)&reply) == REDIS_OK);
        freeReplyObject(expect(reply, REDIS_REPLY_INTEGER, NULL, n + 1));
    }
    reply = expect(redisCommand(c, "LRANGE l 0 -1"), REDIS_REPLY_ARRAY, NULL, 0);
    CHECK(reply->elements == 10000);
    expect(reply->element[9999], REDIS_REPLY_STRING, "9999", 0);
    freeReplyObject(reply);
    freeReplyObject(expect(redisCommand(c, "MULTI"), REDIS_REPLY_STATUS, "OK", 0));
    freeReplyObject(expect(redisCommand(c, "LPOP l"), REDIS_REPLY_STATUS, "QUEUED", 0));
    reply = expect(redisCommand(c, "EXEC"), REDIS_REPLY_ARRAY, NULL, 0);
    expect(reply->element[0], REDIS_REPLY_STRING, "0", 0);
    freeReplyObject(reply);
    reply = redisCommand(c, "EVAL %s 1 k v", "return {KEYS[1], ARGV[1], 3.7, false}");
    expect(reply, REDIS_REPLY_ARRAY, NULL, 0);
    CHECK(reply->elements == 4);
    expect(reply->element[2], REDIS_REPLY_INTEGER, NULL, 3);
    expect(reply->element[3], REDIS_REPLY_NIL, NULL, 0);
    freeReplyObject(reply);
    freeReplyObject(expect(redisCommand(c, "FLUSHALL"), REDIS_REPLY_STATUS, "OK", 0));
}

static void listen_to(redisContext *speaker, redisContext *listener) {
    redisReply *reply = expect(redisCommand(listener, "SUBSCRIBE news"), REDIS_REPLY_ARRAY, NULL, 0);
    expect(reply->element[2], REDIS_REPLY_INTEGER, NULL, 1);
    freeReplyObject(reply);
    freeReplyObject(expect(redisCommand(speaker, "PUBLISH news hello"), REDIS_REPLY_INTEGER, NULL, 1));
    CHECK(redisGetReply(listener, (void **)&reply) == REDIS_OK);
    expect(reply->element[0], REDIS_REPLY_STRING, "message", 0);
    expect(reply->element[2], REDIS_REPLY_STRING, "hello", 0);
    freeReplyObject(reply);
}

int main(void) {
    redisContext *tcp = redisConnect(getenv("REDIS_HOST"), atoi(getenv("REDIS_PORT")));
    redisContext *local = redisConnectUnix(getenv("REDIS_SOCKET"));
    use(tcp);
    use(local);
    listen_to(tcp, local);
    redisFree(tcp);
    redisFree(local);
    puts("ok");
    return 0;
}
