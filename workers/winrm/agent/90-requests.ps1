# Part of the agent: the main loop. Reads a request, runs its operations in order and writes the reply.
$Operations = @{
    hello = ${function:Invoke-Hello}; stat = ${function:Invoke-Stat}; list = ${function:Invoke-List}
    read = ${function:Invoke-Read}; hash = ${function:Invoke-Hash}; write = ${function:Invoke-Write}
    spread = ${function:Invoke-Spread}; mkdir = ${function:Invoke-Mkdir}; remove = ${function:Invoke-Remove}
    service = ${function:Invoke-Service}; version = ${function:Invoke-Version}; registry = ${function:Invoke-Registry}
    tcp = ${function:Invoke-Tcp}; http = ${function:Invoke-Http}; resolve = ${function:Invoke-Resolve}; clock = ${function:Invoke-Clock}
    touch = ${function:Invoke-Touch}; run = ${function:Invoke-Run}; access = ${function:Invoke-Access}
}

${function:Read-Request} = {
    param([string]$Line)
    $request = @{ id = $null; fault = ''; stop = $false; going = $false; ops = @(); look = @(); guard = $null; gzip = $false }
    try { $map = ConvertFrom-JsonLine $Line }
    catch {
        $request.fault = 'the line is not a JSON object'
        return $request
    }
    if (-not $map.ContainsKey('id') -or $map['id'] -isnot [string]) {
        $request.fault = 'the request has no id'
        return $request
    }
    $request.id = $map['id']
    $request.stop = $map.ContainsKey('stop') -and $map['stop'] -is [bool] -and $map['stop']
    $request.going = $map.ContainsKey('keep_going') -and $map['keep_going'] -is [bool] -and $map['keep_going']
    $request.gzip = $map.ContainsKey('gzip') -and $map['gzip'] -is [bool] -and $map['gzip']
    if (-not $map.ContainsKey('v') -or $map['v'] -isnot [long] -or $map['v'] -ne $ProtocolVersion) {
        $request.fault = "the request has a version other than $ProtocolVersion"
        $request.stop = $false
    }
    elseif (-not $request.stop) { Read-Content $map $request }
    return $request
}

# The operations and the guard, which a large request has compressed.
${function:Read-Content} = {
    param($Map, $Request)
    if ($Map.ContainsKey('packed')) {
        try { $content = ConvertFrom-JsonLine (Get-Unpacked $Map['packed']) }
        catch {
            $Request.fault = 'the packed part of the request cannot be unpacked'
            return
        }
        foreach ($name in 'ops', 'look', 'guard') { if ($content.ContainsKey($name)) { $Map[$name] = $content[$name] } }
    }
    if ($Map.ContainsKey('ops')) { $Request.ops = $Map['ops'] }
    $Request.fault = Get-OpsFault $Map.ContainsKey('ops') $Request.ops
    if (-not $Request.fault -and $Map.ContainsKey('look') -and $null -ne $Map['look']) {
        $Request.look = $Map['look']
        $Request.fault = Get-OpsFault $true $Request.look
    }
    if ($Request.fault) { return }
    try { $Request.guard = Read-Guard $Map }
    catch { $Request.fault = (Get-Cause $_.Exception).Message }
}

${function:Get-OpsFault} = {
    param([bool]$Given, $Ops)
    if (-not $Given -or $Ops -isnot [Collections.Generic.List[object]]) { return 'the request has no list of operations' }
    foreach ($op in $Ops) {
        if ($op -isnot [Collections.IDictionary] -or -not $op.ContainsKey('op') -or $op['op'] -isnot [string]) {
            return 'an operation has no op'
        }
    }
    return ''
}

${function:Get-Result} = {
    param($Fields, $Guard)
    $held = $null
    try {
        $name = $Fields['op']
        if ($Operations.Keys -cnotcontains $name) { Stop-Operation 'invalid' "there is no operation $name" }
        $held = Enter-Guard $Fields $Guard
        $result = @(& $Operations[$name] $Fields)[-1]
        $result['ok'] = $true
        return $result
    }
    catch { return Get-FailedResult $_.Exception $Fields }
    finally { if ($null -ne $held) { $held.Dispose() } }
}

${function:Get-Results} = {
    param($Request)
    $results = New-Object Collections.Generic.List[object]
    $ValidPaths.Clear()
    $CheckedFolders.Clear()
    $failed = $false
    if ($Request.fault) { $results.Add(@{ ok = $false; error = 'invalid'; message = $Request.fault }) }
    else {
        foreach ($fields in $Request.ops) {
            $result = Get-Result $fields $Request.guard
            $results.Add($result)
            if (-not $result['ok']) {
                $failed = $true
                if (-not $Request.going) { break }
            }
        }
        if (-not $failed) { foreach ($fields in $Request.look) { $results.Add((Get-Result $fields $Request.guard)) } }
    }
    return , $results
}

# Length from which results are compressed. Names and hashes of a large cluster's files are similar, and WinRM encodes
# everything in base64 again.
$PackedFrom = 8000
${function:Get-Packed} = {
    param([string]$Text)
    $store = New-Object IO.MemoryStream
    $pack = New-Object IO.Compression.GZipStream $store, ([IO.Compression.CompressionMode]::Compress)
    $bytes = $Ascii.GetBytes($Text)
    $pack.Write($bytes, 0, $bytes.Length)
    $pack.Dispose()
    return [Convert]::ToBase64String($store.ToArray())
}

${function:Get-Unpacked} = {
    param([string]$Text)
    $store = New-Object IO.MemoryStream (, [Convert]::FromBase64String($Text))
    $pack = New-Object IO.Compression.GZipStream $store, ([IO.Compression.CompressionMode]::Decompress)
    $plain = New-Object IO.MemoryStream
    try { $pack.CopyTo($plain) } finally { $pack.Dispose() }
    return $Ascii.GetString($plain.ToArray())
}

${function:Get-Answer} = {
    param($Request, $Results)
    $text = ConvertTo-JsonLine $Results
    $name = 'results'
    if ($Request.gzip -and $text.Length -ge $PackedFrom) {
        $text = ConvertTo-JsonLine (Get-Packed $text)
        $name = 'gzip'
    }
    return '{"v":' + $ProtocolVersion + ',"id":' + (ConvertTo-JsonLine $Request.id) + ',"' + $name + '":' + $text + '}'
}

# In batch mode the bootstrap has already read all lines.
$Waiting = $null
if (Test-Path -LiteralPath 'variable:Received') { $Waiting = $Received }

${function:Read-Line} = {
    if ($null -eq $Waiting) { return [Console]::In.ReadLine() }
    if ($Waiting.Count) { return $Waiting.Dequeue() }
    return $null
}

# Written in one piece: the console's writer splits its input into 256 characters, each of which becomes a WinRM message.
$Out = [Console]::OpenStandardOutput()
while ($null -ne ($line = Read-Line)) {
    if ($line.Trim() -eq '') { continue }
    $request = Read-Request $line
    $results = Get-Results $request
    $answer = $Ascii.GetBytes((Get-Answer $request $results) + "`n")
    $Out.Write($answer, 0, $answer.Length)
    $Out.Flush()
    if ($request.stop) { break }
}
