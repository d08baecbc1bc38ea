package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/holdfastdb/holdfast/server"
)

// logFlags are --log and what is short for parts of it.
type logFlags struct {
	yaml, file, dir, toStderr string
}

func (l *logFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&l.yaml, "log", "", "what is logged where, as YAML: 'sinks: {stderr: {format: json, filter: INFO}}'")
	fs.StringVar(&l.file, "log-config-file", "", "file with what --log takes")
	fs.StringVar(&l.dir, "log-dir", "", "directory of log files (default: logs below the store)")
	fs.StringVar(&l.toStderr, "logtostderr", "WARNING", "least severity that also goes to stderr: INFO, WARNING, ERROR, NONE")
	fs.Lookup("logtostderr").NoOptDefVal = "INFO"
}

// logYAML is the part of the configuration that one log with two sinks can have.
type logYAML struct {
	FileDefaults fileSinkYAML `yaml:"file-defaults"`
	Sinks        struct {
		Stderr sinkYAML `yaml:"stderr"`
	} `yaml:"sinks"`
}

type sinkYAML struct {
	Filter string `yaml:"filter"`
	Format string `yaml:"format"`
}

type fileSinkYAML struct {
	sinkYAML     `yaml:",inline"`
	Dir          string `yaml:"dir"`
	MaxFileSize  string `yaml:"max-file-size"`
	MaxGroupSize string `yaml:"max-group-size"`
}

// resolve turns the flags into cfg; flags that are set win over the YAML.
func (l *logFlags) resolve(fs *pflag.FlagSet, cfg *server.LogConfig) error {
	text, flag := []byte(l.yaml), "--log"
	if l.file != "" {
		if l.yaml != "" {
			return errors.New("--log and --log-config-file: give one of them")
		}
		var err error
		flag = "--log-config-file"
		if text, err = os.ReadFile(l.file); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	if err := parseLogYAML(text, cfg); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if l.dir != "" {
		cfg.Dir = l.dir
	}
	if fs.Changed("logtostderr") {
		level, err := parseSeverity(l.toStderr)
		if err != nil {
			return fmt.Errorf("--logtostderr: %w", err)
		}
		cfg.StderrLevel = level
	}
	return nil
}

func parseLogYAML(text []byte, cfg *server.LogConfig) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true) // What has no effect here must not look as if it had.
	var y logYAML
	if err := d.Decode(&y); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", ""))
	}
	if err := y.FileDefaults.apply("file-defaults", &cfg.FileLevel, &cfg.FileJSON); err != nil {
		return err
	}
	if err := y.Sinks.Stderr.apply("sinks: stderr", &cfg.StderrLevel, &cfg.StderrJSON); err != nil {
		return err
	}
	if y.FileDefaults.Dir != "" {
		cfg.Dir = y.FileDefaults.Dir
	}
	cfg.NoFiles = cfg.FileLevel >= server.LogNothing
	for _, size := range []struct {
		name, text string
		into       *int64
	}{{"max-file-size", y.FileDefaults.MaxFileSize, &cfg.FileBytes}, {"max-group-size", y.FileDefaults.MaxGroupSize, &cfg.GroupBytes}} {
		if size.text == "" {
			continue
		}
		n, err := parseSize(size.text, 0)
		if err != nil {
			return fmt.Errorf("file-defaults: %s: %w", size.name, err)
		}
		if n < 64<<10 {
			return fmt.Errorf("file-defaults: %s: %s is too little, at least 64KiB is needed", size.name, size.text)
		}
		*size.into = n
	}
	return nil
}

func (s sinkYAML) apply(where string, level *slog.Level, json *bool) error {
	switch strings.ToLower(s.Format) {
	case "":
	case "crdb-v2", "crdb-v2-tty", "text":
		*json = false
	case "json", "json-compact", "json-fluent", "json-fluent-compact":
		*json = true
	default:
		return fmt.Errorf("%s: format %q is not known (crdb-v2, json)", where, s.Format)
	}
	if s.Filter == "" {
		return nil
	}
	l, err := parseSeverity(s.Filter)
	if err != nil {
		return fmt.Errorf("%s: filter: %w", where, err)
	}
	*level = l
	return nil
}

func parseSeverity(s string) (slog.Level, error) {
	switch strings.ToUpper(s) {
	case "INFO", "DEFAULT", "TRUE":
		return slog.LevelInfo, nil
	case "WARNING", "":
		return slog.LevelWarn, nil
	case "ERROR", "FATAL":
		return slog.LevelError, nil
	case "NONE", "FALSE":
		return server.LogNothing, nil
	}
	return 0, fmt.Errorf("%q is no severity (INFO, WARNING, ERROR, NONE)", s)
}
