package agent

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// AccessConfig says who may use the socket. Root and the agent's own user may do everything, and with no list given they
// are the only ones.
type AccessConfig struct {
	Clients AccessList `yaml:"clients" doc:"who may call tools, besides root and the agent's own user"`
	Viewers AccessList `yaml:"viewers" doc:"who may look: status, calls, events and logs, but call nothing"`
	Admins  AccessList `yaml:"admins" doc:"who may do everything"`
}

// AccessList names users and groups, each by its name or number.
type AccessList struct {
	Users  []string `yaml:"users" doc:"names or numbers of users"`
	Groups []string `yaml:"groups" doc:"names or numbers of groups; supplementary groups count too"`
}

// lists are the lists of all roles by their key below access, weakest role last.
func (c AccessConfig) lists() []roleList {
	return []roleList{{roleAdmin, "admins", c.Admins}, {roleClient, "clients", c.Clients}, {roleViewer, "viewers", c.Viewers}}
}

type roleList struct {
	role role
	key  string
	list AccessList
}

// Shared is true when somebody besides root and the agent's own user may connect.
func (c AccessConfig) Shared() bool {
	for _, l := range c.lists() {
		if len(l.list.Users)+len(l.list.Groups) > 0 {
			return true
		}
	}
	return false
}

// socketGroup is the one group that a socket of mode 0660 can be of. ok is false when the file's mode cannot say who may
// connect, because the lists name users, or more than one group.
func (c AccessConfig) socketGroup() (name string, ok bool) {
	for _, l := range c.lists() {
		for _, u := range l.list.Users {
			if uid, err := lookUpUser(u); err != nil || (uid != 0 && int(uid) != os.Geteuid()) {
				return "", false
			}
		}
		for _, g := range l.list.Groups {
			if name != "" && name != g {
				return "", false
			}
			name = g
		}
	}
	return name, name != ""
}

// check finds every name that this host does not know.
func (c AccessConfig) check(top *checker) {
	for _, l := range c.lists() {
		for i, name := range l.list.Users {
			if _, err := lookUpUser(name); err != nil {
				top.add(fmt.Sprintf("access.%s.users[%d]", l.key, i), "%v", err)
			}
		}
		for i, name := range l.list.Groups {
			if _, err := lookUpGroup(name); err != nil {
				top.add(fmt.Sprintf("access.%s.groups[%d]", l.key, i), "%v", err)
			}
		}
	}
}

// lookUpUser turns a name or number into a user id. A number needs no entry: users may come from where only libc looks.
func lookUpUser(name string) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(id), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("user %q is not in /etc/passwd; a user from elsewhere (LDAP) must be written as a number", name)
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err
}

func lookUpGroup(name string) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(id), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group %q is not in /etc/group; a group from elsewhere (LDAP) must be written as a number", name)
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(id), err
}
