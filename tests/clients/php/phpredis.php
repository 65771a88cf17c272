<?php
// PHP's extension redis (phpredis) and Predis: what a Laravel application asks for. Cache with TTLs, locks that are given
// back by a script, transactions, pipelines, scans, a queue on a list and sorted sets moved by a script, sessions.

require '/usr/share/php/Predis/autoload.php';

const UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";
const MIGRATE = "local val = redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1])
if next(val) ~= nil then
    redis.call('zremrangebyrank', KEYS[1], 0, #val - 1)
    for i = 1, #val, 100 do
        redis.call('rpush', KEYS[2], unpack(val, i, math.min(i + 99, #val)))
    end
end
return val";

function check(string $what, bool $holds): void
{
    if (!$holds) {
        fwrite(STDERR, "not so: $what\n");
        exit(1);
    }
}

function phpredis(string $host, int $port): void
{
    $r = new Redis();
    $r->connect($host, $port);
    check('SETEX', $r->setEx('cache:a', 60, serialize(['x' => 1])) && unserialize($r->get('cache:a')) === ['x' => 1]);
    check('a missing key', $r->get('none') === false && $r->ttl('cache:a') > 0);
    check('many keys', $r->mset(['m1' => 1, 'm2' => 2]) && $r->mget(['m1', 'none', 'm2']) === ['1', false, '2']);
    check('a counter', $r->incrBy('n', 5) === 5 && $r->decr('n') === 4 && $r->incrByFloat('f', 0.5) === 0.5);
    check('a lock', $r->set('lock', 'me', ['nx', 'ex' => 20]) === true && $r->set('lock', 'you', ['nx', 'ex' => 20]) === false);
    check('not mine', $r->eval(UNLOCK, ['lock', 'you'], 1) === 0);
    check('given back', $r->eval(UNLOCK, ['lock', 'me'], 1) === 1 && $r->exists('lock') === 0);
    $sha = $r->script('load', UNLOCK);
    check('by digest', $r->evalSha($sha, ['lock', 'me'], 1) === 0 && $r->script('exists', $sha) === [1]);
    check('a transaction', $r->multi()->set('t', 1)->incr('t')->exec() === [true, 2]);
    check('a pipeline', $r->pipeline()->get('t')->hset('h', 'a', 'b')->hgetall('h')->exec() === ['2', 1, ['a' => 'b']]);
    $r->watch('t');
    (function () use ($host, $port) {
        $other = new Redis();
        $other->connect($host, $port);
        $other->set('t', 9);
    })();
    check('a watched key', $r->multi()->set('t', 1)->exec() === false);
    foreach (range(1, 250) as $n) {
        $r->zAdd('delayed', $n, "job$n");
    }
    check('a delayed queue', count($r->eval(MIGRATE, ['delayed', 'queue', 240], 2)) === 240);
    check('moved', $r->lLen('queue') === 240 && $r->zCard('delayed') === 10 && $r->lPop('queue') === 'job1');
    check('blocking', $r->blPop(['none', 'queue'], 1) === ['queue', 'job2'] && $r->zRange('delayed', 0, 0, true) === ['job241' => 241.0]);
    $r->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    $found = [];
    $cursor = null;
    while (($keys = $r->scan($cursor, 'm*', 5)) !== false) {
        $found = array_merge($found, $keys);
    }
    sort($found);
    check('a scan', $found === ['m1', 'm2'] && $r->unlink('m1', 'm2') === 2);
    $r->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
    check('values of PHP', $r->set('php', [1, null, 2.5]) && $r->get('php') === [1, null, 2.5]);
    check('a stream', is_string($r->xAdd('st', '*', ['f' => 'v'])) && $r->xLen('st') === 1);
    check('information', (int) $r->info('server')['tcp_port'] > 0);
}

function predis(string $host, int $port): void
{
    $r = new Predis\Client(['host' => $host, 'port' => $port, 'database' => 1], ['prefix' => 'app:']);
    check('a value', (string) $r->set('a', 'b', 'EX', 60) === 'OK' && $r->get('a') === 'b' && $r->ttl('a') > 0);
    check('a pipeline', $r->pipeline(fn ($p) => $p->incr('n')->get('n')) == [1, '1']);
    check('a transaction', $r->transaction(fn ($t) => $t->incr('n')->incr('n')) == [2, 3]);
    check('a script', $r->eval("return redis.call('get', KEYS[1])", 1, 'a') === 'b');
    check('a scan', iterator_to_array(new Predis\Collection\Iterator\Keyspace($r, 'app:a*')) === ['app:a']);
    try {
        $r->lpush('a', ['x']);
        check('a wrong type', false);
    } catch (Predis\Response\ServerException $error) {
        check('the error', $error->getErrorType() === 'WRONGTYPE');
    }
}

function sessions(string $host, int $port): void
{
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', "tcp://$host:$port?database=2");
    ini_set('session.use_cookies', '0');
    ini_set('session.cache_limiter', '');
    ini_set('redis.session.locking_enabled', '1');
    session_id('abc');
    session_start();
    $_SESSION['user'] = 7;
    session_write_close();
    $_SESSION = [];
    session_start();
    check('a session', $_SESSION['user'] === 7);
    session_destroy();
    $r = new Redis();
    $r->connect($host, $port);
    $r->select(2);
    check('no session', $r->dbSize() === 0);
}

[$host, $port] = [getenv('REDIS_HOST'), (int) getenv('REDIS_PORT')];
ob_start();
phpredis($host, $port);
predis($host, $port);
sessions($host, $port);
ob_end_clean();
echo "ok\n";
