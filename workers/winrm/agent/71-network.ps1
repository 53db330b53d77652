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
    if (-not [Uri]::TryCreate($url, 'Absolute', [ref]$uri) -or @('http', 'https') -notcontains $uri.Scheme) { Stop-Operation 'invalid' "not an http or https URL: $url" }
    if ($uri.Scheme -eq 'https') { Enable-Tls }
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

# By default, old versions of .NET offer TLS 1.0 at most; 3072 is TLS 1.2, 0 the choice of the system.
${function:Enable-Tls} = {
    $offered = [int][Net.ServicePointManager]::SecurityProtocol
    if ($offered -eq 0 -or $offered -band 3072) { return }
    try { [Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]($offered -bor 3072) }
    catch { $null = $_ }
}

${function:Invoke-Resolve} = {
    param($Fields)
    $name = Get-Field $Fields 'host' -Kind 'text'
    $timeout = Get-Field $Fields 'timeout' -Kind 'seconds' -Default 5
    try {
        $pending = [Net.Dns]::BeginGetHostAddresses($name, $null, $null)
        if (-not $pending.AsyncWaitHandle.WaitOne([int]($timeout * 1000))) {
            Stop-Operation 'timeout' "no answer about the name $name in $timeout s"
        }
        $found = [Net.Dns]::EndGetHostAddresses($pending)
    }
    catch {
        $cause = Get-Cause $_.Exception
        if ($cause -is [Net.Sockets.SocketException]) { Stop-Operation 'not_found' "no address of the name ${name}: $($cause.Message)" }
        if ($cause -is [ArgumentException]) { Stop-Operation 'invalid' "not a host name: $name" }
        throw
    }
    return @{ addresses = @($found | ForEach-Object { $_.ToString() -replace '%.*$', '' } | Sort-Object -Unique) }
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
