-- Lets tickets in, each exactly once.
--
-- What each says is packed: whose lease is claimed from, the end of the claimed turn (0: none is),
-- whether no turn is needed (1), and the node knows that it entered (2), ticket, the claimed turn's
-- ticket, and what the pass is made from.
local FREE, KNOWN = 1, 2
local granted, ends = {}, {}
-- For the step that also calls the next; whether it did.
local advance, advanced = nil, false

local function let_in(said)
  local by, claimed_till, how, id, claimed, from = struct.unpack('>I2I8Bc16c16', said)
  local free, pass = how % 2 == FREE, string.sub(said, from)
  local written = granted[id] or redis.call('HGET', KEY.pass, id)
  if written then
    local till = ends[id] or redis.call('ZSCORE', KEY.ends, id)
    if till and tonumber(till) > now then
      return { 'again', written, till }
    end
  end
  if redis.call('ZSCORE', KEY.entered, id) then
    return { 'over' }
  end
  if how >= KNOWN then
    -- Forgotten with a write that was lost. It may be inside for as long as if it had entered just now.
    redis.call('ZREM', KEY.called, id)
    redis.call('ZADD', KEY.entered, text(now), id)
    redis.call('ZADD', KEY.active, text(now + policy.pass_ttl), id)
    note(ENTERED, id, now)
    return { 'over' }
  end
  if claimed_till > 0 and not claim(claimed, claimed_till, text(by)) and not free then
    return { 'missed' }
  end
  local turn = redis.call('ZSCORE', KEY.called, id)
  if not free then
    if not turn then
      return { 'not called' }
    end
    if lapsed(tonumber(turn)) then
      return { 'missed' }
    end
  end
  if turn then
    redis.call('ZREM', KEY.called, id)
  end
  redis.call('ZADD', KEY.entered, text(now), id)
  local till = text(now + policy.pass_ttl)
  granted[id], ends[id] = pass, till
  note(ENTERED, id, now)
  return { 'granted', till }
end

-- Lets in all of them, and writes together what can be.
local function let_all_in(from, count)
  local answers, inside, until_of, passes = {}, {}, {}, {}
  for k = 1, count do
    answers[k] = let_in(ARGV[from + k - 1])
  end
  for id, till in pairs(ends) do
    inside[#inside + 1] = id
    until_of[#until_of + 1] = till
    until_of[#until_of + 1] = id
    passes[#passes + 1] = id
    passes[#passes + 1] = granted[id]
  end
  bulk('ZREM', KEY.missed, inside)
  bulk('ZADD', KEY.active, until_of)
  bulk('HSET', KEY.pass, passes)
  bulk('ZADD', KEY.ends, until_of)
  return answers
end

