// Package check holds the container examples to the tools that read them: the Dockerfile to the build tool's own front end and
// linter, and to a run of what it says; the manifests to the validation of the Kubernetes API server, and to a run of their probes.
//
// It is a module of its own, so that what it needs is none of pitboss' dependencies.
package check
