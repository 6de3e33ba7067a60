-- Lets one ticket in, exactly once.
--
-- More ARGV: ticket, the claimed turn's ticket and end (or empty), whether no turn is needed, pass,
-- whether the node knows that it entered.
local id, claimed, claimed_till = ARGV[16], ARGV[17], ARGV[18]
local free, pass = ARGV[19] == '1', ARGV[20]

local written = redis.call('HGET', KEY.pass, id)
local ends = redis.call('ZSCORE', KEY.ends, id)
if written and ends and tonumber(ends) > now then
  return { 'again', written, ends, text(now) }
end
if redis.call('ZSCORE', KEY.entered, id) then
  return { 'over' }
end
if ARGV[21] == '1' then
  -- Forgotten with a write that was lost.
  redis.call('ZREM', KEY.called, id)
  redis.call('ZADD', KEY.entered, text(now), id)
  note(ENTERED, id, now)
  save()
  return { 'over' }
end
if claimed ~= '' and not claim(claimed, tonumber(claimed_till)) and not free then
  return { 'missed' }
end
local turn = redis.call('ZSCORE', KEY.called, id)
local refused = nil
if turn and not free and lapsed(tonumber(turn)) then
  refused = 'missed'
elseif not turn and not free then
  refused = 'not called'
end
if refused then
  -- A claim may have been booked.
  if #records > 0 then
    save()
  end
  return { refused }
end
redis.call('ZREM', KEY.called, id)
forgive(id)
local till = text(now + policy.pass_ttl)
redis.call('ZADD', KEY.entered, text(now), id)
redis.call('ZADD', KEY.active, till, id)
redis.call('HSET', KEY.pass, id, pass)
redis.call('ZADD', KEY.ends, till, id)
note(ENTERED, id, now)
save()
return { 'granted', till, text(now) }
