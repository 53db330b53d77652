-- KEYS run, leases, fences; ARGV node, holder, milliseconds, limit (0: none)
-- Returns the fence, 0 when another holds the node or the limit is reached, or false: no such run.
if missing(KEYS[1]) then return false end
local ends, holder = lease(KEYS[2], ARGV[1])
if holder ~= ARGV[2] then
  if ends > now() then return 0 end
  if tonumber(ARGV[4]) > 0 and live(KEYS[2]) >= tonumber(ARGV[4]) then return 0 end
  -- From the clock, so that it grows from run to run as well, and goes on growing when this store is lost and made anew.
  local before = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0')
  redis.call('HSET', KEYS[3], ARGV[1], whole(math.max(before + 1, now())))
end
hold(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
beat(KEYS[1])
return tonumber(redis.call('HGET', KEYS[3], ARGV[1]))
