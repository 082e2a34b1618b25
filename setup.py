"""All that pip needs to know of the project; settings of the tools stand in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# The two minor versions that the tests run on, see pipeline/tf_estimator.py. tf-keras asks for TensorFlow of its own
# minor version, so the two always agree. On 2.15 TensorFlow itself holds NumPy below 2 and protobuf below 5.
TENSORFLOW = ">=2.15,!=2.16.*,!=2.17.*,!=2.18.*,!=2.19.*,!=2.20.*,<2.22"
BEAM = ">=2.77,<2.78"

# Enough for gs:// with either TensorFlow; Beam's own extra is for its runner on Dataflow as well.
GCS = ["google-cloud-storage>=3.1,<4", "google-auth-httplib2>=0.2,<1", "google-apitools>=0.5.31,<0.6"]
# Beam's runner on Dataflow, from beside either TensorFlow: the client of its API, in the bounds of Beam's extra gcp.
DATAFLOW = [*GCS, "google-cloud-dataflow-client>=0.13,<0.14", "orjson>=3.9.7,<4"]
# Amazon S3 creates, replaces and deletes objects on condition; older boto3 cannot ask for that.
AWS = [f"apache-beam[aws]{BEAM}", "boto3>=1.41,<2"]

setup(
    name="estimator-score",
    version="0.1.0",
    description="Scores files of features with a TensorFlow Estimator checkpoint, on one machine or on a Beam cluster",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["pipeline", "pipeline.*", "transforms", "transforms.*"]),
    package_data={"pipeline": ["py.typed"], "transforms": ["py.typed"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        f"tensorflow{TENSORFLOW}",
        f"tf-keras{TENSORFLOW}",
        "tensorflow-estimator==2.15.0",
        f"apache-beam{BEAM}",
        "pyarrow>=18,<26",
        "numpy>=1.26,<3",
        "pydantic>=2.7,<3",
        "PyYAML>=6,<7",
        "rich>=13,<16",
        "google-crc32c>=1.5,<2",  # Beam's TFRecord wants a CRC32C in C and does not depend on one
        "fastavro>=1.9,<2",
        "zlib-ng>=0.5,<2",  # inflates twice as fast as Python's own
        "duckdb>=1.5,<3",  # joins the two sides of `compare` in bounded memory, which Arrow's join does not
    ],
    extras_require={
        # No wheels for 3.13; on 3.10 tensorflow-metadata wants protobuf 6.32 at most, and Beam's extra gcp 6.33 at least.
        "fit": ["tensorflow-transform>=1.21,<1.22; python_version >= '3.11' and python_version < '3.13'"],
        "gcs": GCS,
        "dataflow": DATAFLOW,
        "gcp": [f"apache-beam[gcp]{BEAM}"],  # needs protobuf 6, so TensorFlow 2.21
        "aws": AWS,
        "azure": [f"apache-beam[azure]{BEAM}"],
        "report": ["matplotlib>=3.8,<4"],
        "examples": ["scikit-learn>=1.5,<2"],
        "dev": [
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "ruff>=0.11,<1",
            "mypy>=1.15,<3",
            "pandas>=2.2,<4",
            "matplotlib>=3.8,<4",  # as in report
            "pre-commit>=4,<5",
            "pre-commit-hooks>=5,<7",
            "types-PyYAML>=6,<7",
            *DATAFLOW,
            *AWS,
            "gcp-storage-emulator>=2026.7,<2027",
            "moto[s3]>=5.2,<6",
            "flask>=3,<4",  # moto's server, without the other services of its own extra
            "flask-cors>=5,<7",
        ],
    },
    entry_points={"console_scripts": ["estimator-score=pipeline.commands:run_and_exit"]},
)
