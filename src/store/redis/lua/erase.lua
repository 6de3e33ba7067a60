-- Takes out what a forgotten event left in a partition.
--
-- KEYS: events, line, gone, and in the partition of the event's gate: until when it was erased last,
--       gates, and what the gate is made of.
-- ARGV: event, until when, how long the latter is remembered in ms.
local event, till = ARGV[1], tonumber(ARGV[2])

if KEYS[4] and tonumber(redis.call('GET', KEYS[4]) or '0') < till then
  redis.call('SREM', KEYS[5], event)
  for k = 6, #KEYS do
    redis.call('UNLINK', KEYS[k])
  end
  redis.call('SET', KEYS[4], text(till), 'PX', ARGV[3])
end

-- Removals have a part below a microsecond.
local after = '(' .. text(till)
for key, rest in pairs({ [KEYS[2]] = after, [KEYS[3]] = text(till + 1) }) do
  if #redis.call('ZRANGE', key, rest, '+inf', 'BYSCORE', 'LIMIT', 0, 1) == 0 then
    redis.call('UNLINK', key)
  elseif key == KEYS[2] then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', text(till))
  else
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. rest)
  end
end
if redis.call('EXISTS', KEYS[2], KEYS[3]) == 0 then
  redis.call('ZREM', KEYS[1], event)
end
return 1
