package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tryPort binds the port as a worker would, and listens to nothing, so that no client can meet it. The tables in /proc/net are no
// substitute: a socket that is bound and does not listen is in none of them (proc(5)), and it keeps the port all the same.
//
// One bind to any address of both families conflicts with every socket on the port, whichever its own family and address are.
// With reuseAddress a TCP port is free when only connections are left of it, TIME_WAIT and others, or sockets that were bound
// with the same option and do not listen; what listens keeps it (socket(7)). A UDP port is always tried without: with it, two
// sockets would share the port and take each other's datagrams.
func tryPort(a portAddress, reuseAddress bool) error {
	err := bindPort(a, reuseAddress, !a.ip.IsValid() || a.ip.Is6())
	if !a.ip.IsValid() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		err = bindPort(a, reuseAddress, false) // a host without IPv6
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errHeld
	case errors.Is(err, unix.EACCES): // a port below net.ipv4.ip_unprivileged_port_start: what listens can be seen
		if len(portInodes(a, true)) > 0 {
			return errHeld
		}
		return nil
	case err != nil:
		return fmt.Errorf("cannot bind port %d: %w", a.port, err)
	}
	return nil
}

func bindPort(a portAddress, reuseAddress, six bool) error {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(a.port)}
	if a.ip.Is4() {
		to = &unix.SockaddrInet4{Port: int(a.port), Addr: a.ip.As4()}
	}
	if six {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.port)}
		if a.ip.IsValid() {
			to = &unix.SockaddrInet6{Port: int(a.port), Addr: a.ip.As16()}
		}
	}
	if a.udp {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if six {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	if reuseAddress && !a.udp {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, to)
}

const procListen = "0A" // TCP_LISTEN in /proc/net/tcp

// portInodes are the sockets on a port, by the kernel's tables. One in TIME_WAIT belongs to nobody: its inode is "0".
func portInodes(a portAddress, listening bool) (inodes []string) {
	tables := []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"}
	if a.udp {
		tables = []string{"/proc/self/net/udp", "/proc/self/net/udp6"}
	}
	for _, name := range tables {
		file, err := os.Open(name)
		if err != nil {
			continue // a host without IPv6
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if len(f) < 10 {
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(port, 16, 16); err == nil && uint16(n) == a.port && (!listening || a.udp || f[3] == procListen) {
				inodes = append(inodes, f[9])
			}
		}
		_ = file.Close()
	}
	return inodes
}

// portHolder names the processes that have a socket on the port, those that listen first.
func portHolder(a portAddress) string {
	inodes := portInodes(a, true)
	if len(inodes) == 0 {
		inodes = portInodes(a, false)
	}
	links, timeWait := map[string]bool{}, 0
	for _, inode := range inodes {
		if inode == "0" {
			timeWait++
			continue
		}
		links["socket:["+inode+"]"] = true
	}
	if len(links) == 0 && timeWait > 0 {
		return fmt.Sprintf("%d connections in TIME_WAIT", timeWait)
	}
	if len(links) == 0 {
		return ""
	}
	return holders(func(link, _ string) bool { return links[link] })
}
