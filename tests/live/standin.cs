// A stand-in for the product's Windows service, compiled on the host by Windows PowerShell (C# 5, .NET Framework 4).
// It listens on the sync port, answers the site's web service, and reads <program>.ini at each event:
// address, port, web_port, start_ms, stop_ms, stop=ignore, exit_after_ms. Events go to <program>.log.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.ServiceProcess;
using System.Text;
using System.Threading;

public class EsyncStandIn : ServiceBase
{
    private readonly string stem;
    private readonly List<TcpListener> listeners = new List<TcpListener>();

    public EsyncStandIn()
    {
        string program = Process.GetCurrentProcess().MainModule.FileName;
        stem = Path.Combine(Path.GetDirectoryName(program), Path.GetFileNameWithoutExtension(program));
    }

    public EsyncStandIn(string stem)
    {
        this.stem = stem;
    }

    public static void Main()
    {
        ServiceBase.Run(new EsyncStandIn());
    }

    public void Begin()
    {
        Note("starting");
        Thread.Sleep(Number("start_ms", 0));
        Listen(Number("port", 0));
        Listen(Number("web_port", 0));
        int life = Number("exit_after_ms", 0);
        if (life > 0)
        {
            ThreadPool.QueueUserWorkItem(delegate { Thread.Sleep(life); Environment.Exit(1); });
        }
        Note("running");
    }

    public void End()
    {
        Note("stop-asked");
        while (Setting("stop") == "ignore") { Thread.Sleep(200); }
        Thread.Sleep(Number("stop_ms", 0));
        foreach (TcpListener one in listeners) { one.Stop(); }
        listeners.Clear();
        Note("stopped");
    }

    protected override void OnStart(string[] args) { Begin(); }

    protected override void OnStop() { End(); }

    private void Listen(int port)
    {
        if (port == 0) { return; }
        IPAddress address = IPAddress.Any;
        string wanted = Setting("address");
        if (wanted != "") { address = IPAddress.Parse(wanted); }
        TcpListener one = new TcpListener(address, port);
        one.Start();
        listeners.Add(one);
        Thread thread = new Thread(delegate () { Answer(one); });
        thread.IsBackground = true;
        thread.Start();
    }

    private static void Answer(TcpListener one)
    {
        // As ASP.NET describes a web service; without that, a host that answers everything proves nothing.
        string description = "<a href=\"?WSDL\">Service Description</a>";
        string head = "HTTP/1.1 200 OK\r\nContent-Length: " + description.Length + "\r\nConnection: close\r\n\r\n";
        byte[] page = Encoding.ASCII.GetBytes(head + description);
        while (true)
        {
            try
            {
                using (TcpClient client = one.AcceptTcpClient())
                {
                    client.ReceiveTimeout = 2000;
                    NetworkStream stream = client.GetStream();
                    stream.Read(new byte[4096], 0, 4096);
                    stream.Write(page, 0, page.Length);
                }
            }
            catch (SocketException) { return; }
            catch (ObjectDisposedException) { return; }
            catch (InvalidOperationException) { return; }
            catch (IOException) { }
        }
    }

    private string Setting(string name)
    {
        string file = stem + ".ini";
        if (!File.Exists(file)) { return ""; }
        foreach (string line in File.ReadAllLines(file))
        {
            int at = line.IndexOf('=');
            if (at > 0 && line.Substring(0, at).Trim() == name) { return line.Substring(at + 1).Trim(); }
        }
        return "";
    }

    private int Number(string name, int otherwise)
    {
        int value;
        return int.TryParse(Setting(name), out value) ? value : otherwise;
    }

    private void Note(string what)
    {
        string config = stem + ".exe.config";
        long size = File.Exists(config) ? new FileInfo(config).Length : 0;
        string time = DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'");
        string line = time + " " + what + " pid=" + Process.GetCurrentProcess().Id + " config_size=" + size + "\r\n";
        File.AppendAllText(stem + ".log", line);
    }
}
