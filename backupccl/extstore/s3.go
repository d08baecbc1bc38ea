package extstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob/s3blob"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// defaultS3Region is where a bucket is looked for when the URI names no region;
// S3-compatible services accept it.
const defaultS3Region = "us-east-1"

// s3Options are what does not stand in the URI.
type s3Options struct {
	opTimeout time.Duration
	customCA  string // certificates in PEM, besides those of the system
	partBytes int
}

// openS3 opens a bucket with the URI's own endpoint and credentials; nothing is
// taken from the environment unless AUTH=implicit asks for it.
func openS3(ctx context.Context, u *URI, o s3Options) (*bucketStore, error) {
	opTimeout := o.opTimeout
	flag := func(p string) bool {
		b, _ := strconv.ParseBool(u.Params.Get(p)) // checked by ParseURI
		return b
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 8
	transport.ResponseHeaderTimeout = opTimeout
	if o.customCA != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // A machine without any; ours are enough.
		}
		roots.AppendCertsFromPEM([]byte(o.customCA))
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	if flag(s3SkipTLSVerify) {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // The user's explicit wish.
	}
	opts := s3.Options{
		Region: u.Params.Get(s3Region),
		// A redirect is an answer, not an order: a signature holds for one host, and
		// data goes only where the URI says.
		HTTPClient: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		// A multipart object has no checksum of the whole; ours live in the
		// manifest. The SDK would log a warning for each.
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		// It bridges the loss of one connection; patience is RetryPolicy's, and the
		// two multiply.
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 3, 500*time.Millisecond
		}),
	}
	if flag(s3SkipChecksum) {
		opts.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	}
	if ep := u.Params.Get(s3Endpoint); ep != "" {
		opts.BaseEndpoint = &ep
		opts.UsePathStyle = true // Virtual hosts need DNS that such services lack.
	}
	if v := u.Params.Get(s3PathStyle); v != "" {
		opts.UsePathStyle = flag(s3PathStyle)
	}
	if u.Params.Get(paramAuth) == authImplicit {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err == nil {
			err = haveCredentials(ctx, cfg.Credentials, opTimeout)
		}
		if err != nil {
			return nil, Permanent(pgerr.Newf(pgerr.IOError, "AUTH=implicit gives no credentials for %s: %w", u.Redacted(), err).
				WithHint("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of the node, or give its machine a role."))
		}
		opts.Credentials = cfg.Credentials
		if opts.Region == "" {
			opts.Region = cfg.Region
		}
	} else {
		opts.Credentials = credentials.NewStaticCredentialsProvider(
			u.Params.Get(s3AccessKey), u.Params.Get(s3SecretKey), u.Params.Get(s3SessionToken))
	}
	if opts.Region == "" {
		opts.Region = defaultS3Region
		if opts.BaseEndpoint == nil {
			opts.Region = bucketRegion(ctx, opts, u.Host, opTimeout)
		}
	}
	bo := &s3blob.Options{
		RequestChecksumCalculation: opts.RequestChecksumCalculation,
		KMSEncryptionID:            u.Params.Get(s3ServerKMSID),
	}
	switch u.Params.Get(s3ServerEncMode) {
	case awsAES256:
		bo.EncryptionType = types.ServerSideEncryptionAes256
	case awsKMSEncryption:
		bo.EncryptionType = types.ServerSideEncryptionAwsKms
	}
	b, err := s3blob.OpenBucket(ctx, s3.New(opts), u.Host, bo)
	if err != nil {
		return nil, err
	}
	s := newBucketStore(b, u.Path, u.Redacted(), opTimeout)
	s.partBytes = o.partBytes
	s.close = func() error {
		err := b.Close()
		transport.CloseIdleConnections()
		return err
	}
	if class := u.Params.Get(s3StorageClass); class != "" {
		s.beforeWrite = func(as func(any) bool) error {
			var in *transfermanager.UploadObjectInput
			if as(&in) {
				in.StorageClass = tmtypes.StorageClass(class)
			}
			return nil
		}
	}
	return s, nil
}

// haveCredentials finds out whether the node's environment has credentials at all.
// Found out with the first request, their absence would look like a service that
// does not answer, and would be tried again and again.
func haveCredentials(ctx context.Context, p aws.CredentialsProvider, timeout time.Duration) error {
	if p == nil {
		return errors.New("none are configured")
	}
	ctx, cancel := context.WithTimeout(ctx, min(timeout, 10*time.Second))
	defer cancel()
	_, err := p.Retrieve(ctx)
	return err
}

// bucketRegion asks the service where the bucket lives. When it cannot say, the
// default region is as good a guess as any and the first request will tell.
func bucketRegion(ctx context.Context, opts s3.Options, bucket string, timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, min(timeout, 10*time.Second))
	defer cancel()
	region := ""
	client := s3.New(opts)
	out, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket}, func(o *s3.Options) {
		o.HTTPClient = headerTap{o.HTTPClient, func(h http.Header) {
			if r := h.Get("X-Amz-Bucket-Region"); r != "" {
				region = r
			}
		}}
	})
	if err == nil && out.BucketRegion != nil {
		region = *out.BucketRegion
	}
	if region == "" {
		return defaultS3Region
	}
	return region
}

// headerTap shows response headers, those of refused requests too.
type headerTap struct {
	s3.HTTPClient
	see func(http.Header)
}

func (t headerTap) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.HTTPClient.Do(req)
	if resp != nil {
		t.see(resp.Header)
	}
	return resp, err
}
