-- Comes before the scripts that begin and end steps.
-- The nodes that cannot begin yet, because too many of the run are in work: a sorted set, in the order they asked. Each
-- with the turn it is of: those of an earlier turn are of no interest.
local function waiting_as(turn, node)
  return turn .. '\31' .. node
end

local function wait_for_place(waiting, turn, node)
  local last = redis.call('ZREVRANGE', waiting, 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', waiting, 'NX', last + 1, waiting_as(turn, node))
end

-- Removes the node that has waited longest in this turn, and returns it; '' when none waits.
local function next_waiting(waiting, turn)
  while true do
    local first = redis.call('ZPOPMIN', waiting)[1]
    if not first then return '' end
    local of, node = string.match(first, '^(.*)\31(.*)$')
    if of == turn then return node end
  end
end
