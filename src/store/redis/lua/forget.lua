-- Forgets what a partition holds of an event.
--
-- KEYS: events, gates, then whatever is the event's own. ARGV: the event.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[2], ARGV[1])
for k = 3, #KEYS do
  redis.call('UNLINK', KEYS[k])
end
return 1
