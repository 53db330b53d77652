-- KEYS run, leases; ARGV node, holder
local text = redis.call('HGET', KEYS[2], ARGV[1])
local lease = lease_of(text)
if lease.holder ~= ARGV[2] then return 0 end
local state = opened(KEYS[1], 'held')
if not state then return 0 end
end_lease(state, KEYS[2], ARGV[1], lease)
redis.call('HSET', KEYS[1], 'held', state.held)
return 1
