-- Takes over turns and entries that nodes know of and this gate may have lost.
--
-- More ARGV: version, how many entered, then those as ids and moments, and turns as ids and ends.
local entries = tonumber(ARGV[15])
local turns_from = 16 + 2 * entries
local fresh = bucket.filled_at == 0
local news = 0

for k = 16, turns_from - 1, 2 do
  local id, at = ARGV[k], tonumber(ARGV[k + 1])
  if not redis.call('ZSCORE', KEY.entered, id) then
    redis.call('ZADD', KEY.entered, text(at), id)
    local till = at + policy.pass_ttl
    if till > now then
      redis.call('ZADD', KEY.active, text(till), id)
    end
    if redis.call('ZREM', KEY.called, id) == 0 and at + LOST_AT_MOST > now then
      news = news + 1
    end
    note(ENTERED, id, at)
  end
end
for k = turns_from, #ARGV, 2 do
  local id, till = ARGV[k], tonumber(ARGV[k + 1])
  if not redis.call('ZSCORE', KEY.entered, id) and not lapsed(till) then
    local open = redis.call('ZSCORE', KEY.called, id)
    local missed = redis.call('ZSCORE', KEY.missed, id)
    local new = not open and not (missed and till <= tonumber(missed) - policy.late_grace)
    -- Lapsed and given anew meanwhile: what came back for the one paid for the other.
    local again = open and tonumber(open) + LAPSE_GRACE <= till
    if new or again then
      redis.call('ZADD', KEY.called, text(till), id)
      note(CALLED, id, till)
    end
    if new then
      redis.call('ZREM', KEY.missed, id)
      news = news + 1
    end
  end
end
if fresh then
  bucket.filled_at = math.max(now, 1)
  bucket.rate = policy.rate
else
  -- The time since may have paid for them: it counts in full before the bucket overflows.
  local gained, accounted = gain()
  bucket.level = math.min(bucket.level + gained - news * TURN, room())
  bucket.filled_at = bucket.filled_at + accounted
end
bucket.version = math.max(bucket.version, tonumber(ARGV[14])) + 1
save()
return 1
