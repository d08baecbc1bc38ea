package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/holdfastdb/holdfast/server"
)

func TestDemoLocalities(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		given string
		nodes int
		last  string
		err   string
	}{
		{nil, "", 1, "", ""},
		{[]string{"--nodes=3"}, "", 3, "region=us-east1,az=d", ""},
		{[]string{"--nodes=10"}, "", 10, "region=us-east1,az=b", ""},
		{[]string{"--global"}, "", 9, "region=europe-west1,az=d", ""},
		{nil, "region=a:region=b,zone=y", 2, "region=b,zone=y", ""},
		{[]string{"--nodes=2"}, "region=a:region=b", 2, "region=b", ""},
		{[]string{"--nodes=0"}, "", 0, "", "--nodes: must be at least 1, is 0"},
		{[]string{"--nodes=3"}, "region=a:region=b", 0, "", "--demo-locality: 2 localities for 3 nodes"},
		{[]string{"--nodes=3", "--global"}, "", 0, "", "--nodes: --global has 9 nodes"},
		{[]string{"--global"}, "region=a", 0, "", "--demo-locality: --global has localities of its own"},
		{nil, "region=a:b", 0, "", `--demo-locality: tier must be in the form "key=value" not "b"`},
	} {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		nodes, global := fs.Int("nodes", 1, ""), fs.Bool("global", false, "")
		if err := fs.Parse(tc.args); err != nil {
			t.Fatal(err)
		}
		got, err := demoLocalities(fs, *nodes, *global, tc.given)
		if text := errText(err); text != tc.err {
			t.Errorf("%v %q: got error %q, want %q", tc.args, tc.given, text, tc.err)
			continue
		}
		if len(got) != tc.nodes || tc.nodes > 0 && got[len(got)-1].String() != tc.last {
			t.Errorf("%v %q: got %v", tc.args, tc.given, got)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDemoDistances(t *testing.T) {
	at := func(region string) server.Locality {
		return server.Locality{{Key: "region", Value: region}, {Key: "az", Value: "a"}}
	}
	for _, tc := range []struct {
		a, b server.Locality
		want time.Duration
	}{
		{at("us-east1"), at("us-east1"), 0}, {at("us-east1"), at("us-west1"), 33 * time.Millisecond},
		{at("us-west1"), at("us-east1"), 33 * time.Millisecond}, {at("europe-west1"), at("us-west1"), 73 * time.Millisecond},
		{nil, at("us-west1"), 0}, {at("nowhere"), at("us-west1"), 0},
	} {
		if got := between(tc.a, tc.b); got != tc.want {
			t.Errorf("from %s to %s: got %s, want %s", tc.a, tc.b, got, tc.want)
		}
	}
}
