-- Calls the next tickets.
--
-- ARGV from `ADVANCE`: serial, version, lease held, lease wanted, presence (with when it was sent and
--            its horizon), homes of the candidates (packed), how many candidates, how many given
--            back, then candidates, given back, and claims as ids and ends.
local LATE_AFTER = 1500000
local ADVANCE = 17 + tonumber(ARGV[16])
local serial, version, lease_held, lease_wanted, presence, sent_at, horizon, homes
local candidates, given_back, claims_from = {}, {}, 0

local function read_question()
  serial, version = tonumber(ARGV[ADVANCE]), tonumber(ARGV[ADVANCE + 1])
  lease_held, lease_wanted = tonumber(ARGV[ADVANCE + 2]), tonumber(ARGV[ADVANCE + 3])
  presence, sent_at, horizon = ARGV[ADVANCE + 4], tonumber(ARGV[ADVANCE + 5]), tonumber(ARGV[ADVANCE + 6])
  homes = ARGV[ADVANCE + 7]
  local first = ADVANCE + 10
  for k = 1, tonumber(ARGV[ADVANCE + 8]) do
    candidates[k] = ARGV[first + k - 1]
  end
  for k = 1, tonumber(ARGV[ADVANCE + 9]) do
    given_back[k] = ARGV[first + #candidates + k - 1]
  end
  claims_from = first + #candidates + #given_back
end

-- How many turns may be given now: what the bucket holds and the cap leaves. Turns that are open or
-- leased count as taken, since each is a promise.
local open_turns, active
local function affordable()
  if policy.paused then
    return 0
  end
  local paid = math.floor(math.max(bucket.level, 0) / TURN)
  if policy.max_active == 0 then
    return paid
  end
  return math.min(paid, math.max(policy.max_active - active - open_turns - leased(), 0))
end

-- Disposes of what is over, and answers the tickets whose turns lapsed, and when those ended.
local function dispose()
  local missed, ends = pop(KEY.called, now - LAPSE_GRACE)
  local back = 0
  for k, id in ipairs(missed) do
    back = back + (is_inherited(ends[k]) and 0 or 1)
    miss(id, ends[k])
  end
  refund(back)
  pop(KEY.missed, now - policy.ticket_ttl)
  pop(KEY.active, now)
  pop(KEY.entered, now - policy.ticket_ttl)
  for name, lease in pairs(bucket.leases) do
    if now - lease.asked_at > LEASE_DROPPED_AFTER then
      dropped[name] = true
    end
  end
  for name in pairs(dropped) do
    bucket.leases[name] = nil
  end
  for name, share in pairs(bucket.shares) do
    if share.free_at <= now then
      freed[name] = true
    end
  end
  for name in pairs(freed) do
    bucket.shares[name] = nil
  end
  return missed, ends
end

-- Notes what the node says of itself; answers whether it is noted to be here.
local function note_presence()
  if presence == 'gone' then
    bucket.shares[node] = nil
    freed[node] = true
  elseif presence == 'here' and policy.nodes > 0 then
    local asked_at = math.min(sent_at, now)
    bucket.nodes = policy.nodes
    bucket.shares[node] = {
      asked_at = asked_at, horizon = horizon,
      free_at = asked_at + policy.share_limit + FREED_AFTER,
    }
  else
    return false
  end
  count_silent()
  return presence == 'here'
end

-- Whether a candidate is not the gate's to call: 'away' if it is that of a node that is not heard,
-- 'present' if of one that will leave it to the gate soon.
local function kept(k)
  local at = (k - 1) * 10 + 1
  if at > #homes then
    return nil
  end
  local home, arrival = struct.unpack('>I2I8', homes, at)
  local share = bucket.shares[text(home)]
  if share and arrival > share.horizon then
    return is_away(share) and 'away' or 'present'
  end
  return nil
end

-- What is whose: nodes, horizons, whether they are away.
local function kept_by()
  local all = {}
  for name, share in pairs(bucket.shares) do
    all[#all + 1] = name
    all[#all + 1] = text(share.horizon)
    all[#all + 1] = is_away(share) and '1' or '0'
  end
  return all
end

-- Whether the node's lease is as the node told it to this bucket: one of before may have been spent.
local function is_own_lease()
  local lease = bucket.leases[node]
  return lease ~= nil and lease.asked_at >= bucket.began
end

-- Notes that the node asked; answers whether that is newer than what was seen.
local function newer()
  local lease = bucket.leases[node]
  if lease and lease.serial >= serial then
    return false
  end
  bucket.leases[node] = { serial = serial, held = lease and lease.held or 0, asked_at = now }
  return true
end

-- Gives turns to the first candidates. Answers the turns, who had entered and when, and whether one was
-- new.
local function call()
  local till = text(now + policy.ready_ttl)
  local entered, called = scores(KEY.entered, candidates), scores(KEY.called, candidates)
  local turns, over, given, forgiven, until_of = {}, {}, {}, {}, {}
  for k, id in ipairs(candidates) do
    local open = called[k] or until_of[id]
    local owner = kept(k)
    if entered[k] then
      over[#over + 1] = id
      over[#over + 1] = entered[k]
    elseif open then
      turns[#turns + 1] = id
      turns[#turns + 1] = open
    elseif owner ~= 'away' and (owner or affordable() <= 0) then
      break
    elseif not owner then
      bucket.level = bucket.level - TURN
      open_turns = open_turns + 1
      until_of[id] = till
      given[#given + 1] = till
      given[#given + 1] = id
      forgiven[#forgiven + 1] = id
      turns[#turns + 1] = id
      turns[#turns + 1] = till
      note(CALLED, id, now + policy.ready_ttl)
    end
  end
  bulk('ZADD', KEY.called, given)
  bulk('ZREM', KEY.missed, forgiven)
  return turns, over, #given > 0
end

-- Brings the node's lease to what it holds and wants: the rest is given up, more is granted.
local function settle_lease(refunds)
  local lease = bucket.leases[node]
  local held = lease.held
  -- The lease first: what it gives up is the room for the refund.
  lease.held = math.min(held, lease_held, lease_wanted)
  local kept = lease.held
  if refunds then
    refund(held - kept)
  end
  local more = math.min(lease_wanted - kept, affordable())
  bucket.level = bucket.level - more * TURN
  lease.held = kept + more
end

function advance()
  load()
  read_question()
  if version > bucket.version then
    -- What the caller knows was lost here: it is to be told first, see `settle`, before the time in
    -- which it was given is paid out again.
    return { text(bucket.version), 1, {}, {}, {}, '0', 0, 0, '0', 0, {} }
  end
  advanced = true
  -- Who could not call by what it knows may know of an old rate.
  refill(#candidates > 0 or lease_wanted > 0)
  local missed, ends = dispose()
  local refunds = is_own_lease()
  local late = presence == 'here' and sent_at + LATE_AFTER < now or not newer()
  local heard = false
  if not late then
    heard = note_presence()
    -- One that is late may speak of a turn that was given anew since.
    for _, id in ipairs(given_back) do
      local till = redis.call('ZSCORE', KEY.called, id)
      if till then
        redis.call('ZREM', KEY.called, id)
        refund(is_inherited(tonumber(till)) and 0 or 1)
        -- Over like one that was missed: no word that is on its way yet books it again.
        redis.call('ZADD', KEY.missed, text(tonumber(till) + policy.late_grace), id)
      end
    end
  end
  local lapses = #missed
  for k = claims_from, #ARGV, 2 do
    local till = tonumber(ARGV[k + 1])
    if not claim(ARGV[k], till, node) and not late then
      miss(ARGV[k], till)
      missed[#missed + 1], ends[#ends + 1] = ARGV[k], till
    end
  end
  local lapsed_turns = {}
  for k, id in ipairs(missed) do
    lapsed_turns[2 * k - 1], lapsed_turns[2 * k] = id, text(ends[k])
  end
  open_turns, active = redis.call('ZCARD', KEY.called), redis.call('ZCARD', KEY.active)
  local stale = late or version ~= bucket.version
  local turns, over, given = nil, {}, false
  if stale then
    turns = redis.call('ZRANGE', KEY.called, 0, -1, 'WITHSCORES')
  else
    turns, over, given = call()
  end
  if not late then
    settle_lease(refunds)
  end
  if given or lapses > 0 then
    bucket.version = bucket.version + 1
  end
  local lease = bucket.leases[node]
  return {
    text(bucket.version), stale and 1 or 0, turns, lapsed_turns, over, text(lease and lease.held or 0),
    active, open_turns, text(bucket.level), heard and 1 or 0, kept_by(),
  }
end

