// Two clients of Go, in the versions that Debian has: redigo and go-redis. Values, pipelines, transactions, scripts,
// pools shared by goroutines, pub/sub, blocking, scans.

package main

import (
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
	goredis "gopkg.in/redis.v5"
)

func check(holds bool, what string) {
	if !holds {
		log.Fatalf("not so: %s", what)
	}
}

func must(value interface{}, err error) interface{} {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func redigo(address string) {
	pool := &redis.Pool{MaxActive: 10, Wait: true, Dial: func() (redis.Conn, error) { return redis.Dial("tcp", address) }}
	var together sync.WaitGroup
	for n := 0; n < 50; n++ {
		together.Add(1)
		go func() {
			defer together.Done()
			conn := pool.Get()
			defer conn.Close()
			for m := 0; m < 20; m++ {
				must(conn.Do("INCR", "n"))
			}
		}()
	}
	together.Wait()
	conn := pool.Get()
	defer conn.Close()
	check(must(redis.Int(conn.Do("GET", "n"))) == 1000, "counted by all")
	for n := 0; n < 1000; n++ {
		conn.Send("RPUSH", "l", n)
	}
	conn.Flush()
	for n := 0; n < 1000; n++ {
		check(must(redis.Int(conn.Receive())) == n+1, "a pipeline")
	}
	conn.Send("MULTI")
	conn.Send("SET", "t", 1)
	conn.Send("INCR", "t")
	replies := must(redis.Values(conn.Do("EXEC"))).([]interface{})
	check(len(replies) == 2 && replies[1].(int64) == 2, "a transaction")
	_, err := redis.String(conn.Do("GET", "none"))
	check(err == redis.ErrNil, "a missing key")
	script := redis.NewScript(1, "return redis.call('INCRBY', KEYS[1], ARGV[1])")
	check(must(redis.Int(script.Do(conn, "s", 40))) == 40 && must(redis.Int(script.Do(conn, "s", 2))) == 42, "a script")
	listener := redis.PubSubConn{Conn: pool.Get()}
	listener.Subscribe("news")
	_, subscribed := listener.Receive().(redis.Subscription)
	check(subscribed && must(redis.Int(conn.Do("PUBLISH", "news", "hello"))) == 1, "a subscriber")
	message, heard := listener.Receive().(redis.Message)
	check(heard && string(message.Data) == "hello", "a message")
	listener.Close()
}

func goRedis(address string) {
	client := goredis.NewClient(&goredis.Options{Addr: address, DB: 1})
	check(client.Ping().Val() == "PONG" && client.Set("k", "v", time.Minute).Err() == nil, "a value")
	check(client.TTL("k").Val() > 0 && client.Get("none").Err() == goredis.Nil, "its TTL")
	check(client.SetNX("k", "w", 0).Val() == false && client.Get("k").Val() == "v", "no overwriting")
	check(client.ZAdd("z", goredis.Z{Score: 1, Member: "a"}, goredis.Z{Score: 2.5, Member: "b"}).Val() == 2, "scores")
	check(client.ZRangeWithScores("z", 0, -1).Val()[1].Score == 2.5, "scores read")
	check(client.HMSet("h", map[string]string{"a": "1"}).Err() == nil && client.HGetAll("h").Val()["a"] == "1", "a hash")
	commands, err := client.Pipelined(func(pipe *goredis.Pipeline) error {
		for n := 0; n < 100; n++ {
			pipe.Set(fmt.Sprintf("scan:%d", n), n, 0)
		}
		return nil
	})
	check(err == nil && len(commands) == 100, "a pipeline")
	err = client.Watch(func(tx *goredis.Tx) error {
		client.Set("k", "changed", 0)
		_, err := tx.Pipelined(func(pipe *goredis.Pipeline) error {
			pipe.Set("k", "lost", 0)
			return nil
		})
		return err
	}, "k")
	check(err == goredis.TxFailedErr && client.Get("k").Val() == "changed", "a watched key")
	found, cursor := map[string]bool{}, uint64(0)
	for {
		keys, next, err := client.Scan(cursor, "scan:*", 10).Result()
		check(err == nil, "a scan")
		for _, key := range keys {
			found[key] = true
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	check(len(found) == 100, "all that a scan finds")
	popped := make(chan []string)
	go func() { popped <- client.BLPop(30*time.Second, "q1", "q2").Val() }()
	time.Sleep(50 * time.Millisecond)
	client.RPush("q2", "late")
	pair := <-popped
	check(len(pair) == 2 && pair[0] == "q2" && pair[1] == "late", "blocking")
}

func main() {
	address := os.Getenv("REDIS_HOST") + ":" + os.Getenv("REDIS_PORT")
	redigo(address)
	goRedis(address)
	fmt.Println("ok")
}
