package main

import (
	"strconv"
	"strings"

	"github.com/mithrilfs/mithrilfs/fs"
	"github.com/mithrilfs/mithrilfs/store"
)

const optionHelp = `Options for -o:
  ro                 as --read-only
  allow_other        let other users in, as far as the modes of the files let them
                     (who is not root needs user_allow_other in /etc/fuse.conf)
  noexec             no programs are run from the mount
  cache=SIZE         memory for decoded data, for all readers together (64MiB)
  durability=WHEN    as --durability
  workers=N          frames encoded at once (as many as there are processors)
  series=on|off      as --series; series-depth=N and series-cpu=SHARE likewise
Options that mount(8) and fstab use and that change nothing here are ignored, such
as rw, defaults, nofail, noauto, user, _netdev, relatime and x-systemd.automount;
nosuid and nodev always hold.`

// ignoredOptions are of mount(8), and mean nothing here, or what holds anyway.
var ignoredOptions = map[string]bool{
	"": true, "defaults": true, "rw": true, "auto": true, "noauto": true, "nofail": true, "_netdev": true,
	"user": true, "nouser": true, "users": true, "owner": true, "group": true,
	"nodev": true, "nosuid": true, "dev": true, "suid": true, "exec": true, "default_permissions": true,
	"async": true, "atime": true, "noatime": true, "diratime": true, "nodiratime": true,
	"relatime": true, "norelatime": true, "strictatime": true, "nostrictatime": true, "lazytime": true, "nolazytime": true,
}

var durabilities = map[string]store.Durability{
	"rename": store.DurabilityRename,
	"fsync":  store.DurabilityFsync,
}

// parseMountOptions reads what -o says, any number of times.
func parseMountOptions(given []string) (fs.Options, error) {
	var o fs.Options
	o.Store.Series.Enabled = true
	for word := range strings.SplitSeq(strings.Join(given, ","), ",") {
		if ignoredOptions[word] || strings.HasPrefix(word, "x-") || strings.HasPrefix(word, "X-") ||
			strings.HasPrefix(word, "comment=") {
			continue
		}
		if err := parseMountOption(&o, word); err != nil {
			return o, err
		}
	}
	return o, nil
}

func parseMountOption(o *fs.Options, word string) error {
	key, value, _ := strings.Cut(word, "=")
	switch {
	case word == "ro":
		o.ReadOnly = true
	case word == "allow_other":
		o.AllowOther = true
	case word == "noexec":
		o.Options = append(o.Options, word)
	case key == "cache":
		n, err := parseSize(value)
		if err != nil || n == 0 {
			return usagef("-o %s: give a size such as cache=64MiB", word)
		}
		o.Store.CacheBytes = n
	case key == "durability":
		d, ok := durabilities[value]
		if !ok {
			return usagef("-o %s: durability is rename or fsync", word)
		}
		o.Store.Durability = d
	case key == "workers":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return usagef("-o %s: give a number from 1 on, such as workers=4", word)
		}
		o.Store.Workers = int(n)
	case strings.HasPrefix(key, "series"):
		return parseSeriesOption(&o.Store.Series, key, value)
	default:
		return usagef("-o %s: unknown mount option; mithrilfs mount --help lists those there are", word)
	}
	return nil
}

func parseSeriesOption(o *store.SeriesOptions, key, value string) error {
	switch key {
	case "series":
		if value != "on" && value != "off" {
			return usagef("-o %s=%s: series is on or off", key, value)
		}
		o.Enabled = value == "on"
	case "series-depth":
		n, err := strconv.ParseUint(value, 10, 8)
		if err != nil || n == 0 || n > store.MaxDepth {
			return usagef("-o %s=%s: give a number from 1 to %d, such as series-depth=8", key, value, store.MaxDepth)
		}
		o.Depth = int(n)
	case "series-cpu":
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || !(f > 0 && f <= 1024) {
			return usagef("-o %s=%s: give a number of processors such as series-cpu=0.5", key, value)
		}
		o.CPU = f
	default:
		return usagef("-o %s: unknown mount option; mithrilfs mount --help lists those there are", key)
	}
	return nil
}
