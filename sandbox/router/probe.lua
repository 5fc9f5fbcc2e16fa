-- The probe: answers which version of the table this worker serves from. Its listener writes marks into the records.
function envoy_on_request(handle)
  handle:respond({ [":status"] = "200" }, handle:metadata():get("version"))
end
