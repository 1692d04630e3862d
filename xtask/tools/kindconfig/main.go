// Checks a kind configuration file with kind's own parser and validation, on
// machines that can't run kind. Those are internal to kind and run as the
// first steps of creating a cluster, so this program begins to create one
// with a docker command that only knows how to answer the questions before it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"
)

func main() {
	if filepath.Base(os.Args[0]) == "docker" {
		os.Exit(docker(os.Args[1:]))
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: kindconfig FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// docker answers as an engine without any cluster, and refuses to start one.
func docker(args []string) int {
	switch {
	case len(args) > 0 && args[0] == "info":
		fmt.Println(`{"MemoryLimit":true,"PidsLimit":true,"CPUShares":true,"CgroupVersion":"2"}`)
		return 0
	case len(args) > 0 && args[0] == "ps":
		return 0
	default:
		return 1
	}
}

func check(file string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kindconfig")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Symlink(self, filepath.Join(dir, "docker")); err != nil {
		return err
	}
	if err := os.Setenv("PATH", dir); err != nil {
		return err
	}
	var accepted acceptance
	provider := cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(&accepted))
	err = provider.Create("check", cluster.CreateWithConfigFile(file),
		cluster.CreateWithKubeconfigPath(filepath.Join(dir, "kubeconfig")))
	if accepted {
		return nil
	}
	return err
}

// acceptance becomes true when kind says that it begins to create the cluster,
// which it does right after its validation.
type acceptance bool

func (*acceptance) Warn(string)                     {}
func (*acceptance) Warnf(string, ...interface{})    {}
func (*acceptance) Error(string)                    {}
func (*acceptance) Errorf(string, ...interface{})   {}
func (a *acceptance) V(log.Level) log.InfoLogger    { return a }
func (a *acceptance) Info(string)                   {}
func (a *acceptance) Infof(format string, _ ...any) { *a = *a || format == "Creating cluster %q ...\n" }
func (*acceptance) Enabled() bool                   { return true }
