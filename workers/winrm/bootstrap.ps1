# Conversation: reads the agent from the first line of stdin and runs it. The agent reads each request from stdin as it arrives.
$ProgressPreference = 'SilentlyContinue'
if ($ExecutionContext.SessionState.LanguageMode -ne 'FullLanguage') { exit 3 }
$line = [Console]::In.ReadLine()
if (-not $line) { exit 4 }
# The agent begins with the version of its protocol: without it, nothing of the agent has run.
try { . ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($line)))) }
catch {
    [Console]::Error.WriteLine("$($_.FullyQualifiedErrorId): $_")
    if (Test-Path -LiteralPath 'variable:ProtocolVersion') { exit 14 }
    exit 13
}
exit 0
