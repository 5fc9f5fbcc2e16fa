-- The keyed ingress, on the way back: keeps redirects inside.
-- sandbox/router/listeners.py writes the constants above this text, for each listener.
--   SLOTS: port -> slot; INGRESS: slot -> service -> port; SERVICES: port of an unkeyed address -> service; SERVICE: ours

local LOOPBACK = { ["127.0.0.1"] = true, ["localhost"] = true, ["0.0.0.0"] = true, ["[::1]"] = true }

local function slot_of(handle)
  return SLOTS[string.match(handle:streamInfo():downstreamLocalAddress(), ":(%d+)$")]
end

-- A service that names itself or a neighbour by an unkeyed address would lead a browser out of the sandbox.
function envoy_on_response(handle)
  local location = handle:headers():get("location")
  if not location then return end
  local host, port, rest = string.match(location, "^https?://([^/?#]*):(%d+)(.*)$")
  if not LOOPBACK[host or ""] then return end
  local service = SERVICES[port]
  if not service then
    local ours = handle:streamInfo():dynamicMetadata():get("spurline")
    if ours and ours.d and string.match(ours.d, ":(%d+)$") == port then service = SERVICE end
  end
  local ports = service and INGRESS[slot_of(handle) or ""]
  if ports then handle:headers():replace("location", "http://127.0.0.1:" .. ports[service] .. rest) end
end
