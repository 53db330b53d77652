-- KEYS run, leases; ARGV holder, then node and new hold of each lease. Returns the nodes that the holder still has.
-- A lapsed lease that no other holder took can be renewed: its fence is still the newest.
local state, nodes, kept, written = opened(KEYS[1]), {}, {}, {}
if not state then return kept end
for i = 2, #ARGV, 2 do nodes[#nodes + 1] = ARGV[i] end
for i, text in ipairs(redis.call('HMGET', KEYS[2], unpack(nodes))) do
  local lease = lease_of(text)
  if lease.holder == ARGV[1] then
    lease.hold = ARGV[1 + 2 * i]
    written[#written + 1] = nodes[i]
    written[#written + 1] = text_of(lease)
    kept[#kept + 1] = nodes[i]
  end
end
if #kept > 0 then
  redis.call('HSET', KEYS[2], unpack(written))
  beat(KEYS[1], state)
end
return kept
