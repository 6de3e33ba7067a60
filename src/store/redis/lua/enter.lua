-- Lets tickets in, each exactly once.
--
-- What each says is packed: whose lease is claimed from, the end of the claimed turn (0: none is),
-- whether no turn is needed (1), and the node knows that it entered (2), ticket, the claimed turn's
-- ticket, when it joined, and when it entered.
local FREE, KNOWN = 1, 2
-- For the step that also calls the next; whether it did.
local advance, advanced = nil, false

local function let_in(said)
  local by, claimed_till, how, id, claimed, arrival, known =
    struct.unpack('>I2I8Bc16c16I8I8', said)
  local free = how % 2 == FREE
  local entered = redis.call('ZSCORE', KEY.entered, id)
  if entered then
    return { 'again', entered }
  end
  if how >= KNOWN then
    -- Forgotten with a write that was lost.
    redis.call('ZREM', KEY.called, id)
    inside(id, known)
    return { 'again', text(known) }
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
  forgive(id)
  local at = entry_at(now, arrival, not free and tonumber(turn) or nil, policy.ready_ttl)
  inside(id, at)
  return { 'granted', text(at) }
end

local function let_all_in(from, count)
  local answers = {}
  for k = 1, count do
    answers[k] = let_in(ARGV[from + k - 1])
  end
  return answers
end

