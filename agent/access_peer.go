package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/pitboss-run/pitboss/ipc"
	"google.golang.org/grpc/credentials"
)

// peerHandshake is gRPC's transport security on a unix socket: nothing on the wire, the kernel's word for who connected.
// A connection that is no unix socket has no such word and is refused.
type peerHandshake struct{}

func (peerHandshake) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if accepted, ok := conn.(*peerConn); ok {
		return conn, accepted.cred, nil
	}
	return nil, nil, errors.New("a connection came past the listener that reads credentials")
}

func (peerHandshake) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials are for servers")
}

func (peerHandshake) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "local"}
}

func (h peerHandshake) Clone() credentials.TransportCredentials { return h }

func (peerHandshake) OverrideServerName(string) error { return nil }

func credentialsOf(conn net.Conn) (peerCredentials, error) {
	var cred peerCredentials
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return cred, fmt.Errorf("cannot tell who connects over %s: only unix sockets have peer credentials", conn.LocalAddr().Network())
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return cred, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		if cred.Cred, err = ipc.PeerCred(int(fd)); err != nil {
			return
		}
		cred.Groups, err = ipc.PeerGroups(int(fd))
		if errors.Is(err, syscall.ENOPROTOOPT) || errors.Is(err, syscall.EPERM) { // before Linux 4.13, or a sandbox: fewer rights, never more
			cred.Groups, err = nil, nil
		}
	})
	return cred, errors.Join(err, controlErr)
}
