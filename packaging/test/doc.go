// Package booted tests the packages where they live: below a systemd that runs as PID 1, with real units, sockets, journal,
// dpkg and rpm. `make test-package` compiles its tests and runs them in a container that lane.sh boots over this host's own root;
// what they install and break is thrown away with it. They are behind the build tag booted, because they own the machine.
package booted
