-- Takes over turns and entries that nodes know of and this gate may have lost.
--
-- More ARGV: version, whether shares gave them, how many entered, then those as ids and moments, and
-- turns as ids and ends.
load()
local shared = ARGV[17] == '1'
local entries_from = 19
local turns_from = entries_from + 2 * tonumber(ARGV[18])
if bucket.filled_at == 0 then
  begin_empty()
  bucket.rate = policy.rate
  presume()
else
  refill(false)
end

-- Pays for a turn that was given then, unless it was before the bucket began: it ends after `known_to`.
-- A bucket that took itself for new is emptied.
local function pay(given, known_to)
  if shared or is_inherited(known_to) then
    return
  end
  if given < bucket.began then
    bucket.level = math.min(bucket.level, 0)
    bucket.inherited = known_to
  else
    bucket.level = bucket.level - TURN
  end
end

for k = entries_from, turns_from - 1, 2 do
  local id, at = ARGV[k], tonumber(ARGV[k + 1])
  if not redis.call('ZSCORE', KEY.entered, id) then
    inside(id, at)
    if redis.call('ZREM', KEY.called, id) == 0 and at + LOST_AT_MOST > now then
      pay(at, at)
    end
  end
end
for k = turns_from, #ARGV, 2 do
  local id, till = ARGV[k], tonumber(ARGV[k + 1])
  local open = redis.call('ZSCORE', KEY.called, id)
  local missed = redis.call('ZSCORE', KEY.missed, id)
  if redis.call('ZSCORE', KEY.entered, id) then
    -- It needs no turn.
  elseif till <= now then
    -- Missed: it was paid for and came back, and its owner may, or is not counted any more.
    if not open and not missed and till + policy.late_grace + policy.ticket_ttl > now then
      redis.call('ZADD', KEY.missed, text(till + policy.late_grace), id)
      note(MISSED, id, till)
    end
  else
    local new = not open and not (missed and till <= tonumber(missed) - policy.late_grace)
    -- Lapsed and given anew meanwhile: what came back for the one paid for the other.
    local again = open and tonumber(open) + LAPSE_GRACE <= till
    if new or again then
      redis.call('ZADD', KEY.called, text(till), id)
      note(CALLED, id, till)
    end
    if new then
      forgive(id)
      pay(till - policy.ready_ttl, till)
    end
  end
end
local known = tonumber(ARGV[16])
if bucket.version == 0 then
  begin_life(known)
else
  bucket.version = math.max(bucket.version, known) + 1
end
finish()
return 1
