-- KEYS run, leases, fences; ARGV node, holder, milliseconds, limit (0: none)
-- Returns the fence, 0 when another holds the node or the limit is reached, or false: no such run.
if missing(KEYS[1]) then return false end
local ends, holder = lease(KEYS[2], ARGV[1])
if holder ~= ARGV[2] then
  if ends > now() then return 0 end
  if tonumber(ARGV[4]) > 0 and live(KEYS[2]) >= tonumber(ARGV[4]) then return 0 end
  redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
end
hold(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
beat(KEYS[1])
return tonumber(redis.call('HGET', KEYS[3], ARGV[1]))
