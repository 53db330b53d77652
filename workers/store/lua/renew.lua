-- KEYS run, leases; ARGV node, holder, milliseconds. Returns 1, or 0: not ours (any more).
-- A lapsed lease that nobody took is still ours: its fence is still the newest.
local _, holder = lease(KEYS[2], ARGV[1])
if missing(KEYS[1]) or holder ~= ARGV[2] then return 0 end
hold(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
beat(KEYS[1])
return 1
