# Part of the agent: network requests from this machine.
${function:Invoke-Tcp} = {
    param($Fields)
    $name = Get-Field $Fields 'host' -Kind 'text'
    $port = Get-Field $Fields 'port' -Kind 'whole'
    $timeout = Get-Field $Fields 'timeout' -Kind 'seconds' -Default 5
    if ($port -lt 1 -or $port -gt 65535) { Stop-Operation 'invalid' 'the port must be 1 to 65535' }
    $client = New-Object Net.Sockets.TcpClient
    try {
        $pending = $client.BeginConnect($name, $port, $null, $null)
        if (-not $pending.AsyncWaitHandle.WaitOne([int]($timeout * 1000))) {
            return @{ reachable = $false; message = "no answer from $name port $port in $timeout s" }
        }
        $client.EndConnect($pending)
        return @{ reachable = $true }
    }
    catch { return @{ reachable = $false; message = (Get-Cause $_.Exception).Message } }
    finally { $client.Close() }
}

${function:Invoke-Http} = {
    param($Fields)
    $url = Get-Field $Fields 'url' -Kind 'text'
    $timeout = Get-Field $Fields 'timeout' -Kind 'seconds' -Default 10
    $limit = Get-Field $Fields 'limit' -Kind 'whole' -Default 65536
    $uri = $null
    if (-not [Uri]::TryCreate($url, 'Absolute', [ref]$uri) -or $uri.Scheme -ne 'http') { Stop-Operation 'invalid' "not an http URL: $url" }
    $request = [Net.WebRequest]::Create($uri)
    $request.Proxy = $null
    $request.AllowAutoRedirect = $false
    $request.KeepAlive = $false
    $request.Timeout = $request.ReadWriteTimeout = [Math]::Max(1, [int]($timeout * 1000))
    $response = Get-Response $request
    $status = [int]$response.StatusCode
    try { $body = Get-StreamHead ($response.GetResponseStream()) $limit } finally { $response.Close() }
    return @{ status = $status; body = [Convert]::ToBase64String($body) }
}

${function:Get-Response} = {
    param($Request)
    $watch = [Diagnostics.Stopwatch]::StartNew()
    try { return $Request.GetResponse() }
    catch {
        $cause = Get-Cause $_.Exception
        if ($cause -isnot [Net.WebException]) { throw }
        if ($cause.Response) { return $cause.Response }
        $slug = 'failed'
        # After a timeout the status depends on where the wait was interrupted, so the clock decides.
        if ($cause.Status -eq 'Timeout' -or $watch.ElapsedMilliseconds -ge $Request.Timeout) { $slug = 'timeout' }
        Stop-Operation $slug $cause.Message
    }
}

${function:Get-StreamHead} = {
    param($Stream, [int]$Limit)
    $bytes = New-Object byte[] $Limit
    $have = 0
    while ($have -lt $Limit -and ($got = $Stream.Read($bytes, $have, $Limit - $have)) -gt 0) { $have += $got }
    $head = New-Object byte[] $have
    [Array]::Copy($bytes, $head, $have)
    return , $head
}
