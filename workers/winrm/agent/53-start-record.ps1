# Part of the agent: the start record of a service. It names a process of the service, and what that process has loaded. Before
# the first change of a file that the service reads, it says that the process has loaded something else.
${function:Get-StartRecord} = {
    param($Fields, [string]$Name, [string]$Kind)
    $given = Get-Field $Fields 'start_record' -Kind 'object' -Default $null
    if ($null -eq $given) { return $null }
    $given['op'] = 'start_record'
    return @{ file = Get-Path $given 'file'; $Name = Get-Field $given $Name -Kind $Kind }
}

# One line of JSON, as any other write: all old bytes or all new bytes.
${function:Save-StartRecord} = {
    param([string]$File, [string]$Service, [int]$Id, $Started, $Loaded)
    $value = @{ service = $Service; pid = $Id; started = $Started; loaded = $Loaded }
    $bytes = $Ascii.GetBytes((ConvertTo-JsonLine $value) + "`n")
    $existing = Get-Entry $File
    $folder = [IO.Path]::GetDirectoryName($File)
    if ((Get-MissingFolder $folder).Count) { New-ProtectedFolder $folder }
    Clear-Stray $folder
    if ($null -ne $existing) { [void](Get-File $File) }
    Set-File $File $bytes -Hash (Get-Hash $bytes) -Existing $existing
}

# Called before the first change of an operation. A service that does not run has nothing loaded.
${function:Set-StartOutdated} = {
    param($Record)
    if ($null -eq $Record -or -not $OnWindows) { return }
    $row = Get-ServiceRow $Record.service
    if ($null -eq $row -or -not $row.ProcessId) { return }
    Save-StartRecord $Record.file -Service $row.Name -Id $row.ProcessId -Started (Get-StartTime $row.ProcessId) -Loaded $null
}
