-- KEYS leases. Returns node, holder, node, holder ... of those that have not lapsed.
local held = redis.call('HGETALL', KEYS[1])
local time = now()
local live = {}
for i = 1, #held, 2 do
  local ends, holder = string.match(held[i + 1], '^(%d+) (.*)$')
  if tonumber(ends) > time then
    live[#live + 1] = held[i]
    live[#live + 1] = holder
  end
end
return live
