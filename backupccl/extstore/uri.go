package extstore

import (
	"net/url"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// LocalityParam names the query parameter that ties a URI to a locality. It
// belongs to the BACKUP statement, not to the store, and ParseURI removes it.
const LocalityParam = "COCKROACH_LOCALITY"

// Parameters of S3 URIs.
const (
	paramAuth         = "AUTH"
	s3AccessKey       = "AWS_ACCESS_KEY_ID"
	s3SecretKey       = "AWS_SECRET_ACCESS_KEY"
	s3SessionToken    = "AWS_SESSION_TOKEN"
	s3Endpoint        = "AWS_ENDPOINT"
	s3Region          = "AWS_REGION"
	s3PathStyle       = "AWS_USE_PATH_STYLE"
	s3SkipChecksum    = "AWS_SKIP_CHECKSUM"
	s3SkipTLSVerify   = "AWS_SKIP_TLS_VERIFY"
	s3ServerEncMode   = "AWS_SERVER_ENC_MODE"
	s3ServerKMSID     = "AWS_SERVER_KMS_ID"
	s3StorageClass    = "S3_STORAGE_CLASS"
	s3AssumeRole      = "ASSUME_ROLE"
	authSpecified     = "specified"
	authImplicit      = "implicit"
	awsKMSEncryption  = "aws:kms"
	awsAES256         = "AES256"
	nodelocalSelfHost = "self"
)

// secretParams are the query parameters whose values never leave the process.
var secretParams = map[string]bool{
	s3SecretKey:           true,
	s3SessionToken:        true,
	"AZURE_ACCOUNT_KEY":   true,
	"AZURE_CLIENT_SECRET": true,
	"CREDENTIALS":         true,
	"BEARER_TOKEN":        true,
}

// knownSchemes mean something that this version cannot do; all others are
// mistakes.
var knownSchemes = map[string]bool{
	"gs": true, "azure-blob": true, "azure": true, "azure-storage": true, "http": true, "https": true,
	"file-http": true, "file-https": true, "userfile": true, "external": true,
}

// s3StorageClasses are the values of S3_STORAGE_CLASS.
var s3StorageClasses = []string{
	"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR",
}

// URI is a parsed and checked storage URI.
type URI struct {
	Scheme   string
	Host     string
	Path     string // as written, percent-decoded
	Params   url.Values
	Locality string // value of COCKROACH_LOCALITY, empty when absent

	raw *url.URL // without COCKROACH_LOCALITY
}

// String returns the URI with its secrets, without COCKROACH_LOCALITY. It is for
// job payloads only; messages use Redacted.
func (u *URI) String() string { return u.raw.String() }

// Redacted returns the URI as it may be shown.
func (u *URI) Redacted() string { return Redact(u.raw.String()) }

// Join returns the URI of a place below u.
func (u *URI) Join(elem ...string) *URI {
	c := *u
	raw := *u.raw
	raw.Path = path.Join(append([]string{"/", u.Path}, elem...)...)
	raw.RawPath = ""
	c.Path = raw.Path
	c.raw = &raw
	return &c
}

// ParseURI reads and checks the form of a storage URI; it opens nothing.
func ParseURI(s string) (*URI, error) {
	raw, err := url.Parse(s)
	if err != nil {
		// url.Error repeats its input, which may hold secrets.
		return nil, pgerr.New(pgerr.InvalidParameterValue, "malformed storage URI").
			WithHint("Write scheme://host/path?PARAMETER=value; values are percent-encoded.")
	}
	params, err := url.ParseQuery(raw.RawQuery)
	if err != nil {
		return nil, pgerr.New(pgerr.InvalidParameterValue, "malformed query in storage URI").
			WithHint("Write scheme://host/path?PARAMETER=value; values are percent-encoded.")
	}
	u := &URI{Scheme: raw.Scheme, Host: raw.Host, Path: raw.Path, Params: params, raw: raw}
	if params.Has(LocalityParam) {
		u.Locality = params.Get(LocalityParam)
		params.Del(LocalityParam)
		raw.RawQuery = params.Encode()
	}
	switch u.Scheme {
	case "nodelocal":
		err = u.checkNodelocal()
	case "s3":
		err = u.checkS3()
	case "null":
	default:
		code := pgerr.InvalidParameterValue
		if knownSchemes[u.Scheme] {
			code = pgerr.FeatureNotSupported
		}
		err = pgerr.Newf(code, "unsupported storage scheme: %q - refer to docs to find supported storage schemes", u.Scheme).
			WithHint("Supported schemes are nodelocal, s3 and null.")
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

// NeedsImplicitAccess says whether using the URI reaches something that the
// user's own credentials do not open: the server's disk, its ambient cloud
// identity or a custom endpoint. Only privileged users may.
func (u *URI) NeedsImplicitAccess() bool {
	switch u.Scheme {
	case "nodelocal":
		return true
	case "s3":
		return u.Params.Get(paramAuth) == authImplicit || u.Params.Get(s3Endpoint) != ""
	}
	return false
}

func (u *URI) checkUnknown(provider string, known ...string) error {
	var unknown []string
next:
	for p := range u.Params {
		for _, k := range known {
			if p == k {
				continue next
			}
		}
		unknown = append(unknown, p)
	}
	if len(unknown) == 0 {
		return nil
	}
	sort.Strings(unknown)
	err := pgerr.Newf(pgerr.InvalidParameterValue,
		"unknown %s query parameters: %s", provider, strings.Join(unknown, ", "))
	if len(known) > 0 {
		return err.WithHint("Names are written in capitals. Known are %s.", strings.Join(known, ", "))
	}
	return err.WithHint("Names are written in capitals; %s takes none but %s.", provider, LocalityParam)
}

func (u *URI) checkNodelocal() error {
	if u.Host == "" {
		return pgerr.Newf(pgerr.InvalidParameterValue,
			"invalid `nodelocal` URI: host component of nodelocal URI must be a node ID "+
				"(use 'self' to specify each node should access its own local filesystem): %s", u.raw.Redacted()).
			WithHint("Write nodelocal://1/path or nodelocal://self/path.")
	}
	if _, err := u.NodeID(); err != nil {
		return err
	}
	if strings.Trim(u.Path, "/") == "" {
		return pgerr.New(pgerr.InvalidParameterValue, "local storage requested but path not provided").
			WithHint("Name a directory below the external-io-dir, as in nodelocal://1/backups.")
	}
	if escapes(u.Path) {
		return errOutsideDir(u.Path)
	}
	return u.checkUnknown("nodelocal")
}

// NodeID returns the node of a nodelocal URI; 0 means "self".
func (u *URI) NodeID() (int32, error) {
	if u.Host == nodelocalSelfHost {
		return 0, nil
	}
	id, err := strconv.ParseInt(u.Host, 10, 32)
	if err != nil || id < 1 {
		return 0, pgerr.Newf(pgerr.InvalidParameterValue,
			"host component of nodelocal URI must be a node ID: %s", u.raw.Redacted()).
			WithHint("Write nodelocal://1/path or nodelocal://self/path.")
	}
	return int32(id), nil
}

// escapes says whether p leaves the directory it is relative to.
func escapes(p string) bool {
	depth := 0
	for _, elem := range strings.Split(p, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

func errOutsideDir(p string) error {
	return Permanent(pgerr.Newf(pgerr.InsufficientPrivilege,
		"local file access to paths outside of external-io-dir is not allowed: %s", p).
		WithHint("Paths of nodelocal URIs begin at the directory that the node was given as --external-io-dir."))
}

func (u *URI) checkS3() error {
	if u.Host == "" {
		return pgerr.New(pgerr.InvalidParameterValue, "empty host component; s3 URI must specify a target bucket").
			WithHint("Write s3://bucket/path?AWS_ACCESS_KEY_ID=…&AWS_SECRET_ACCESS_KEY=….")
	}
	if u.Params.Get(s3AssumeRole) != "" {
		return pgerr.Newf(pgerr.FeatureNotSupported, "%s is not supported by this version", s3AssumeRole).
			WithHint("Use the keys of the role itself, or AUTH=implicit on a machine that has it.")
	}
	if err := u.checkUnknown("S3", paramAuth, s3AccessKey, s3SecretKey, s3SessionToken, s3Endpoint, s3Region,
		s3PathStyle, s3SkipChecksum, s3SkipTLSVerify, s3ServerEncMode, s3ServerKMSID, s3StorageClass); err != nil {
		return err
	}
	switch auth := u.Params.Get(paramAuth); auth {
	case "", authSpecified:
		for _, p := range []string{s3AccessKey, s3SecretKey} {
			if u.Params.Get(p) == "" {
				return pgerr.Newf(pgerr.InvalidParameterValue, "AUTH is set to 'specified', but %s is not set", p).
					WithHint("Add %s to the URI, percent-encoded, or AUTH=implicit to use the credentials of the node's environment.", p)
			}
		}
	case authImplicit:
	default:
		return pgerr.Newf(pgerr.InvalidParameterValue, "unsupported value %s for AUTH", auth).
			WithHint("AUTH is %s or %s.", authSpecified, authImplicit)
	}
	switch mode := u.Params.Get(s3ServerEncMode); mode {
	case "", awsAES256:
	case awsKMSEncryption:
		if u.Params.Get(s3ServerKMSID) == "" {
			return pgerr.New(pgerr.InvalidParameterValue,
				"AWS_SERVER_KMS_ID param must be set when using aws:kms server side encryption mode.")
		}
	default:
		return pgerr.Newf(pgerr.InvalidParameterValue,
			"unsupported server encryption mode %s. Supported values are 'aws:kms' and 'AES256'.", mode)
	}
	for _, p := range []string{s3PathStyle, s3SkipChecksum, s3SkipTLSVerify} {
		if v := u.Params.Get(p); v != "" {
			if _, err := strconv.ParseBool(v); err != nil {
				return pgerr.Newf(pgerr.InvalidParameterValue, "cannot parse %s as bool: %q", p, v).WithHint("Write true or false.")
			}
		}
	}
	if ep := u.Params.Get(s3Endpoint); ep != "" {
		// The SDK would find out, and only when it is asked for the first object.
		if e, err := url.Parse(ep); err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" {
			return pgerr.Newf(pgerr.InvalidParameterValue, "%s %q is not a URL", s3Endpoint, ep).
				WithHint("Write it with its scheme, as in https://minio.example.com:9000, percent-encoded.")
		}
	}
	if c := u.Params.Get(s3StorageClass); c != "" && !slices.Contains(s3StorageClasses, c) {
		return pgerr.Newf(pgerr.InvalidParameterValue, "unsupported value %s for %s", c, s3StorageClass).
			WithHint("Classes are %s.", strings.Join(s3StorageClasses, ", "))
	}
	return nil
}

// Redact replaces every secret of a storage URI, so that the result may be
// logged and shown. Text that is no URI at all is hidden as a whole.
func Redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "redacted"
	}
	if u.Scheme == "null" || u.Scheme == "workload" {
		return s
	}
	params, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		u.RawQuery = "redacted"
		return u.String()
	}
	for p := range params {
		if secretParams[p] {
			params.Set(p, "redacted")
		}
	}
	u.RawQuery = params.Encode()
	if _, ok := u.User.Password(); ok {
		u.User = url.UserPassword(u.User.Username(), "redacted")
	}
	return u.String()
}
