-- A gate's step: lets in who asks for it, then calls the next if that is asked for too.
--
-- More ARGV: how many enter, what each says, and the question for turns.
local entries = let_all_in(17, tonumber(ARGV[16]))
local turns = advance and advance() or {}
-- Refusals change nothing: a gate that refused all it was asked is not made by that.
if advanced or #records > 0 then
  finish()
end
return { text(now), entries, turns }
