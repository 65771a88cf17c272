# Sidekiq and redis-rb: jobs, jobs for later, retries, batches of jobs, queues and their counts; pipelines, pub/sub.

require 'redis'
require 'sidekiq'
require 'sidekiq/api'

URL = ENV.fetch('REDIS_URL')
Sidekiq.configure_client { |config| config.redis = { url: URL } }
Sidekiq.configure_server do |config|
  config.redis = { url: URL }
  config.options[:poll_interval_average] = 0.2
end

def check(what)
  raise "not so: #{what}" unless yield
end

def eventually(what, seconds = 60)
  deadline = Time.now + seconds
  until yield
    raise "in vain: #{what}" if Time.now > deadline
    sleep 0.05
  end
end

# Writes what it was given to a list.
class Note
  include Sidekiq::Worker
  sidekiq_options retry: 3

  sidekiq_retry_in { 1 }

  def perform(name, failures = 0)
    tries = Sidekiq.redis { |r| r.incr("tries:#{name}") }
    raise 'not yet' if tries <= failures
    Sidekiq.redis { |r| r.rpush('notes', name) }
  end
end

# The worker loads this file as well.
unless Sidekiq.server?
  redis = Redis.new(url: URL)
  check('a pipeline') { redis.pipelined { |p| p.set('a', 1); p.incr('a') } == ['OK', 2] }
  check('a transaction') { redis.multi { |m| m.incr('a'); m.get('a') } == [3, '3'] }
  check('a watched key') do
    Redis.new(url: URL).watch('a') { redis.set('a', 9); redis.get('a') == '9' }
  end
  check('a script') { redis.eval('return {KEYS[1], ARGV[1]}', ['k'], ['v']) == %w[k v] }
  redis.zadd('z', [[1, 'a'], [2.5, 'b']])
  check('scores') { redis.zrange('z', 0, -1, with_scores: true) == [['a', 1.0], ['b', 2.5]] }
  redis.mapped_hmset('h', { 'x' => '1', 'y' => '2' })
  check('a hash') { redis.hgetall('h') == { 'x' => '1', 'y' => '2' } }
  check('a scan') { redis.scan_each(match: '?').to_a.sort == %w[a h z] }
  heard = []
  listener = Thread.new do
    Redis.new(url: URL).subscribe('news') do |on|
      on.message { |_channel, text| heard << text; Thread.current.kill if text == 'end' }
    end
  end
  eventually('a subscriber') { redis.pubsub(:numsub, 'news') == ['news', 1] }
  redis.publish('news', 'hello')
  redis.publish('news', 'end')
  listener.join(20)
  check('messages') { heard == %w[hello end] }

  Note.perform_async('now')
  Note.perform_in(1, 'later')
  Note.perform_async('third', 2)
  Sidekiq::Client.push_bulk('class' => Note, 'args' => Array.new(50) { |n| ["bulk#{n}"] })
  check('the queue') { Sidekiq::Queue.new.size == 52 && Sidekiq::ScheduledSet.new.size == 1 }
  worker = spawn('sidekiq', '-r', File.expand_path(__FILE__), '-c', '5')
  eventually('all jobs') { redis.llen('notes') == 53 }
  notes = redis.lrange('notes', 0, -1)
  check('each job once') { notes.uniq.size == 53 && notes.include?('later') && notes.include?('third') }
  stats = nil
  eventually('the counts') { (stats = Sidekiq::Stats.new).processed >= 55 }
  check('the counts') { stats.failed == 2 && stats.enqueued.zero? && stats.scheduled_size.zero? }
  check('the process') { Sidekiq::ProcessSet.new.size == 1 }
  Process.kill('TERM', worker)
  Process.wait(worker)
  puts 'ok'
end
