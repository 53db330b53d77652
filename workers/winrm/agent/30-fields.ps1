# Part of the agent: the fields of an operation, checked for type, and the paths among them.
$RegexCase = [Text.RegularExpressions.RegexOptions]'IgnoreCase, CultureInvariant'
$ForbiddenInName = New-Object regex '[\x00-\x1f<>:"/\\|?*]'
$DeviceName = New-Object regex ('\A(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?\z', $RegexCase)
$Required = New-Object object
# Paths that were found well-formed in the current request. The main loop clears the set.
$ValidPaths = New-Object 'Collections.Generic.HashSet[string]'

${function:Test-Kind} = {
    param($Value, [string]$Kind)
    switch ($Kind) {
        'text' { return $Value -is [string] }
        'flag' { return $Value -is [bool] }
        'object' { return $Value -is [Collections.IDictionary] }
        'whole' { return $Value -is [long] -and $Value -ge 0 }
        'seconds' { return ($Value -is [long] -or $Value -is [double]) -and $Value -ge 0 }
        'texts' { return $Value -is [Collections.Generic.List[object]] -and -not @($Value | Where-Object { $_ -isnot [string] }) }
        'map of texts' {
            if ($Value -isnot [Collections.IDictionary]) { return $false }
            foreach ($item in $Value.Values) { if ($item -isnot [string]) { return $false } }
            return $true
        }
    }
}

${function:Get-Field} = {
    param($Fields, [string]$Name, [string]$Kind, $Default = $Required)
    if (-not $Fields.ContainsKey($Name)) {
        if ([object]::ReferenceEquals($Default, $Required)) { Stop-Operation 'invalid' "$($Fields['op']) needs the field $Name" }
        return , $Default
    }
    if ($null -eq $Fields[$Name] -and $null -eq $Default) { return $null }
    if (-not (Test-Kind $Fields[$Name] $Kind)) { Stop-Operation 'invalid' "$($Fields['op']): the field $Name must be: $Kind" }
    return , $Fields[$Name]
}

${function:Get-Bytes} = {
    param([string]$Text, [string]$Name)
    try { return , [Convert]::FromBase64String($Text) }
    catch { Stop-Operation 'invalid' "the field $Name must be base64" }
}

${function:Get-NameFault} = {
    param([string]$Name)
    if ($Name -eq '') { return 'an empty segment' }
    if ($Name -eq '.' -or $Name -eq '..') { return 'a relative segment' }
    if ($Name.EndsWith('.') -or $Name.EndsWith(' ')) { return 'a segment that ends in a dot or a space' }
    if ($ForbiddenInName.IsMatch($Name)) { return 'a character that is not allowed in file names' }
    if ($DeviceName.IsMatch($Name)) { return 'a reserved device name' }
    if ($Name.Length -gt 255) { return 'a segment of more than 255 characters' }
    return ''
}

${function:Get-Path} = {
    param($Fields, [string]$Name = 'path', $Default = $Required)
    $path = Get-Field $Fields $Name -Kind 'text' -Default $Default
    if ($null -eq $path) { return $null }
    Assert-Path $path
    return $path
}

${function:Assert-Path} = {
    param([string]$Path)
    if ($ValidPaths.Contains($Path)) { return }
    $root = '/'
    if ($OnWindows) { $root = '[A-Za-z]:\\' }
    if ($Path -notmatch "\A$root") { Stop-Operation 'invalid' 'the path must be absolute, with a drive and backslashes' -Path $Path }
    $rest = $Path.Substring($Matches[0].Length)
    if ($rest -ne '') {
        foreach ($segment in $rest.Split($Separator)) {
            $fault = Get-NameFault $segment
            if ($fault) { Stop-Operation 'invalid' "the path contains $fault" -Path $Path }
        }
    }
    [void]$ValidPaths.Add($Path)
}
