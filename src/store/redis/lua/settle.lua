-- Takes over turns and entries that nodes know of and this gate may have lost.
--
-- More ARGV: version, whether shares gave them, how many entered, then those as ids and moments, and
-- turns as ids and ends.
load()
local shared = ARGV[17] == '1'
local entries_from = 19
local turns_from = entries_from + 2 * tonumber(ARGV[18])
local fresh = bucket.filled_at == 0
-- When what is news was given.
local news = {}
-- What is known of a turn that was told again outlives it by this.
local TOLD_MIN = 60 * LAPSE_GRACE

for k = entries_from, turns_from - 1, 2 do
  local id, at = ARGV[k], tonumber(ARGV[k + 1])
  if not redis.call('ZSCORE', KEY.entered, id) then
    inside(id, at)
    if redis.call('ZREM', KEY.called, id) == 0 and at + LOST_AT_MOST > now then
      news[#news + 1] = at
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
      note(MISSED, id, now)
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
      if shared then
        redis.call('ZREM', KEY.missed, id)
      else
        -- It may have come back in what was lost: it does not come back (again).
        redis.call('ZADD', KEY.missed, text(till + math.max(policy.late_grace, TOLD_MIN)), id)
      end
      news[#news + 1] = math.max(till - policy.ready_ttl, 0)
    end
  end
end
local function fill(at)
  local gained, accounted = gain(at)
  bucket.level = math.min(bucket.level + gained, room())
  bucket.filled_at = bucket.filled_at + accounted
end

if fresh then
  bucket.filled_at = math.max(now, 1)
  bucket.began = bucket.filled_at
  bucket.rate = policy.rate
  presume()
else
  look_around()
  if not shared then
    -- Each is paid for at its moment; what was given before this bucket began can only empty it.
    table.sort(news)
    for _, at in ipairs(news) do
      fill(math.min(at, now))
      local least = at < bucket.began and math.min(bucket.level, 0) or bucket.level - TURN
      bucket.level = math.max(bucket.level - TURN, least)
    end
  end
  fill(now)
end
bucket.version = math.max(bucket.version, tonumber(ARGV[16])) + 1
finish()
return 1
