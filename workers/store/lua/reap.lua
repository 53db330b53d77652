-- KEYS run, leases; ARGV node and hold of each lease that the caller saw lapse. Returns the nodes whose lease was still the same.
local state, gone = opened(KEYS[1], 'held'), {}
if not state then return gone end
for i = 1, #ARGV, 2 do
  local lease = lease_in(KEYS[2], ARGV[i])
  if lease.holder and lease.hold == ARGV[i + 1] then
    end_lease(state, KEYS[2], ARGV[i], lease)
    gone[#gone + 1] = ARGV[i]
  end
end
if #gone > 0 then redis.call('HSET', KEYS[1], 'held', state.held) end
return gone
