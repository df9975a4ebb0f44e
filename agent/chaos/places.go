package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	placePrefix = "pitboss-chaos-"
	// freshPlace is how long a place is left alone although nobody holds it: its maker may be about to.
	freshPlace = time.Minute
)

// placeBases are where rounds have their directories: in memory where that is possible, because a worker that writes to a busy
// disk cannot be killed until the disk has answered, which may take seconds, and would be counted against the kill path.
func placeBases() []string { return []string{"/dev/shm", os.TempDir()} }

// makePlace makes a directory that this process holds by a lock for as long as it is open.
func makePlace(token string) (dir string, held *os.File, err error) {
	for _, base := range placeBases() {
		dir = filepath.Join(base, placePrefix+token)
		if err = os.Mkdir(dir, 0o700); err == nil {
			if held, err = os.Open(dir); err == nil {
				err = unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			}
			return dir, held, err
		}
	}
	return "", nil, err
}

// clearPlaces removes what a verify of this user left that was killed, root what any did (rows give their places to other users):
// directories that nobody holds, and their cgroups.
func clearPlaces() {
	for _, base := range placeBases() {
		left, _ := filepath.Glob(filepath.Join(base, placePrefix+"*"))
		for _, dir := range left {
			clearPlace(dir)
		}
	}
}

func clearPlace(dir string) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	var stat unix.Stat_t
	if unix.Fstat(int(f.Fd()), &stat) != nil || (os.Geteuid() != 0 && int(stat.Uid) != os.Geteuid()) || time.Since(time.Unix(stat.Mtim.Sec, 0)) < freshPlace ||
		unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	for _, cgroup := range cgroupPlaces(strings.TrimPrefix(filepath.Base(dir), placePrefix)) {
		_ = removeBelow(cgroup)
	}
	_ = os.RemoveAll(dir)
}
