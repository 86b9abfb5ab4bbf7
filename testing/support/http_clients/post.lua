-- wrk -s post.lua URL -- FILE: posts the file again and again.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", file:read("*a"), "image/png"
  file:close()
end
