# Part of the agent: whether this account may write to a file, or into a folder. Reads the access list, and changes nothing:
# opening a file for writing would disturb a program that reads it at that moment.
$WriteData = 0x2  # of a file: write; of a folder: create files
$AddFolder = 0x4  # of a folder: create folders
$Generic = 0x50000000  # all, or write
$RefusedNames = 100  # how many names of files are listed

${function:Get-AccessList} = {
    param($Entry)
    if ((Get-Edition) -eq 'Core') { return ('IO.FileSystemAclExtensions' -as [type])::GetAccessControl($Entry, 'Access') }
    return $Entry.GetAccessControl('Access')
}

# The first rule in the order of the list that names this account or one of its groups decides; without one it may not.
${function:Test-Rules} = {
    param($List, [int]$Right)
    $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
    $own = New-Object 'Collections.Generic.HashSet[string]'
    [void]$own.Add($identity.User.Value)
    foreach ($group in $identity.Groups) { [void]$own.Add($group.Value) }
    foreach ($rule in $List.GetAccessRules($true, $true, [Security.Principal.SecurityIdentifier])) {
        if ($rule.PropagationFlags -band [Security.AccessControl.PropagationFlags]::InheritOnly) { continue }
        if (-not ([int]$rule.FileSystemRights -band ($Right -bor $Generic))) { continue }
        if ($own.Contains($rule.IdentityReference.Value)) { return $rule.AccessControlType -eq [Security.AccessControl.AccessControlType]::Allow }
    }
    return $false
}

${function:Test-WritableElsewhere} = {
    param([string]$Path)
    $process = Start-Program '/usr/bin/test' ('-w', $Path)
    if (-not $process.WaitForExit(5000)) { return $null }
    return $process.ExitCode -eq 0
}

# A list that cannot be read or understood says nothing.
${function:Test-Writable} = {
    param($Entry, [int]$Right)
    if (-not $OnWindows) { return Test-WritableElsewhere $Entry.FullName }
    try { return Test-Rules (Get-AccessList $Entry) $Right } catch { return $null }
}

# The folder in which the first missing part of a path would be created.
${function:Get-NearestFolder} = {
    param([string]$Path)
    $parent = [IO.Path]::GetDirectoryName($Path)
    while ($parent) {
        $entry = Get-Entry $parent
        if ($null -ne $entry) { return $entry }
        $parent = [IO.Path]::GetDirectoryName($parent)
    }
    return $null
}

# The files of a folder mostly have the same access list: each is judged once. Elsewhere the attribute is all there is.
${function:Test-Refused} = {
    param($File, $Known)
    if (Test-ReadOnly $File) { return $true }
    if (-not $OnWindows) { return $false }
    try {
        $list = Get-AccessList $File
        $text = $list.GetSecurityDescriptorSddlForm('Access')
        if (-not $Known.ContainsKey($text)) { $Known[$text] = -not (Test-Rules $list $WriteData) }
        return $Known[$text]
    }
    catch { return $false }
}

${function:Get-Refused} = {
    param($Folder, [string]$Containing)
    $known = @{}
    $names = New-Object Collections.Generic.List[string]
    foreach ($file in $Folder.GetFiles()) {
        if ($file.Name.IndexOf($Containing, [StringComparison]::OrdinalIgnoreCase) -lt 0) { continue }
        if (Test-Refused $file $known) { $names.Add($file.Name) }
    }
    $names.Sort([StringComparer]::OrdinalIgnoreCase)
    return , $names
}

${function:Invoke-Access} = {
    param($Fields)
    $path = Get-Path $Fields
    $containing = Get-Field $Fields 'containing' -Kind 'text' -Default $null
    $entry = Get-Entry $path
    if ($null -eq $entry) {
        $result = @{ exists = $false; kind = $null; writable = $null; nearest = $null }
        $above = Get-NearestFolder $path
        if ($above -is [IO.DirectoryInfo]) {
            $result['nearest'] = $above.FullName
            $result['writable'] = Test-Writable $above $AddFolder
        }
        return $result
    }
    if ($entry -is [IO.FileInfo]) { return @{ exists = $true; kind = 'file'; writable = Test-Writable $entry $WriteData } }
    $result = @{ exists = $true; kind = 'folder'; writable = Test-Writable $entry $WriteData }
    if ($null -ne $containing) {
        # Only a folder that may be listed tells its files.
        try { $names = Get-Refused $entry $containing } catch { return $result }
        $result['refused_count'] = $names.Count
        $result['refused'] = $names.GetRange(0, [Math]::Min($names.Count, $RefusedNames))
    }
    return $result
}
