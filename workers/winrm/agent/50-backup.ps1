# Part of the agent: backups. The old file is copied and a manifest line is written before anything changes.
# Backups contain keys and connection strings, and every user may read below ProgramData: this folder gets its own rights.
${function:New-ProtectedFolder} = {
    param([string]$Folder)
    [void][IO.Directory]::CreateDirectory($Folder)
    if (-not $OnWindows) { return }
    $user = [Security.Principal.WindowsIdentity]::GetCurrent().User.Value
    $rules = New-Object Security.AccessControl.DirectorySecurity
    $rules.SetSecurityDescriptorSddlForm("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;$user)")
    Set-Acl -LiteralPath $Folder -AclObject $rules
}

${function:Get-Backup} = {
    param($Fields)
    $folder = Get-Path $Fields 'backup' -Default $null
    if ($null -eq $folder) { return $null }
    return @{ folder = $folder; files = "$folder$($Separator)files"; next = 0 }
}

# The latest number that this process has given in each folder: finding it lists all kept files, which thousands of removes must
# not do each time. Another agent may have written meanwhile, or a person may have removed the folder.
$LastKept = New-Object 'Collections.Generic.Dictionary[string,int]'

${function:Open-Backup} = {
    param($Backup)
    if ($null -eq (Get-Entry $Backup.folder)) { New-ProtectedFolder $Backup.folder }
    [void][IO.Directory]::CreateDirectory($Backup.files)
    $last = 0
    if ($LastKept.TryGetValue($Backup.files, [ref]$last) -and [IO.File]::Exists("$($Backup.files)$Separator$last")) {
        $Backup.next = $last + 1
        if (-not [IO.File]::Exists("$($Backup.files)$Separator$($last + 1)")) { return }
    }
    $Backup.next = 1
    foreach ($file in [IO.Directory]::GetFiles($Backup.files)) {
        $number = 0
        if ([int]::TryParse([IO.Path]::GetFileName($file), [ref]$number) -and $number -ge $Backup.next) { $Backup.next = $number + 1 }
    }
}

${function:Add-Backup} = {
    param($Backup, [string]$Path, $Before, $After)
    if ($null -eq $Backup) { return $null }
    if ($Backup.next -eq 0) { Open-Backup $Backup }
    $place = $null
    $kept = $null
    if ($Before -and $Before -ne 'folder') {
        $kept = 'files\' + $Backup.next
        $place = "$($Backup.files)$Separator$($Backup.next)"
        [IO.File]::Copy($Path, $place, $false)
        $LastKept[$Backup.files] = $Backup.next
        $Backup.next += 1
    }
    $line = @{ at = Get-TimeText ([DateTime]::UtcNow); path = $Path; before = $Before; after = $After; kept = $kept }
    $bytes = $Ascii.GetBytes((ConvertTo-JsonLine $line) + "`n")
    $stream = [IO.File]::Open("$($Backup.folder)$($Separator)manifest.jsonl", 'Append', 'Write', 'Read')
    try {
        $stream.Write($bytes, 0, $bytes.Length)
        $stream.Flush($true)
    }
    finally { $stream.Dispose() }
    return $place
}
