# ruff: noqa: E501 - the specification's lines are as long as they are
"""One table of what travels, for the tests of reader and writer alike.

Every XML sample of ``protocol.txt`` is here, byte for byte; where it writes ``status="X"``, once for each code it names.
``canonical`` cases are also exactly what our writer makes of their message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sheepfold.protocol.messages import (
    BeatAnswer,
    ErrorAnswer,
    JobAnswer,
    JobOffer,
    RendererOffer,
    ServerFigures,
    ValidationAnswer,
)
from sheepfold.protocol.session_messages import Endpoints, SignInAnswer
from sheepfold.protocol.status import BeatStatus, ErrorStatus, JobStatus, SignInStatus, ValidationStatus


@dataclass(frozen=True, kw_only=True)
class WireCase:
    """Bytes of an answer and the message they are."""

    name: str
    #: Which reader and writer: the key of ``READERS`` and ``WRITERS`` in ``test_wire.py``.
    kind: str
    wire: bytes
    message: Any
    #: The writer makes exactly these bytes.
    canonical: bool = False


DECLARATION = b'<?xml version="1.0" encoding="utf-8"?>\n'

SPEC_CONFIG_ERROR = b"""<?xml version="1.0" encoding="utf-8" ?>
<config status="X" />"""

SPEC_CONFIG = b"""<?xml version="1.0" encoding="utf-8" ?>
<config status="0">
<request type="validate-job" path="/server/send_frame.php" />
<request type="request-job" path="/server/request_job.php" />
<request type="download-archive" path="/server/download.php" />
<request type="error" path="/server/error.php" />
<request type="keepmealive" path="/server/keepmealive.php" max-period="1440" />
<request type="logout" path="/account.php?mode=logout&worker=1" />
</config>"""

SPEC_JOB_ERROR = b"""<?xml version="1.0" encoding="utf-8" ?>
<jobrequest status="X" />"""

SPEC_JOB = b"""<?xml version="1.0" encoding="utf-8" ?>
<jobrequest status="0">
<frames remaining="1187" />
<job id="1" use_gpu="1" archive_md5="11d046f9912267a29f99a731c7e4e3b0" revision="0" path="compute_method.blend" frame="0340" synchronous_upload="1">
<renderer md5="ceda00890578762c6fac96f1a13f671a" commandline=".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1" update_method="remainingtime"/>
<script>import bpy
# disable the GPU for Cycles
bpy.context.user_preferences.system.compute_device_type = "NONE"
# if it's a movie clip, switch to png
fileformat = bpy.context.scene.render.image_settings.file_format
if fileformat != 'BMP' and fileformat != 'PNG' and fileformat != 'JPEG' and fileformat != 'TARGA' and fileformat != 'TARGA_RAW' :
bpy.context.scene.render.image_settings.file_format = 'PNG'
#bpy.context.scene.render.file_extension = '.png'
bpy.context.scene.render.filepath = ''
</script>
</job>
</jobrequest>"""

SPEC_VALIDATION = b"""<jobvalidate status="X" />"""

SPEC_BEAT = b"""<?xml version="1.0" encoding="utf-8" ?>
<keepmealive status="X" />"""

SPEC_ERROR = b"""<?xml version="1.0" encoding="utf-8" ?>
<error status="X" />"""

SPEC_SCRIPT = """import bpy
# disable the GPU for Cycles
bpy.context.user_preferences.system.compute_device_type = "NONE"
# if it's a movie clip, switch to png
fileformat = bpy.context.scene.render.image_settings.file_format
if fileformat != 'BMP' and fileformat != 'PNG' and fileformat != 'JPEG' and fileformat != 'TARGA' and fileformat != 'TARGA_RAW' :
bpy.context.scene.render.image_settings.file_format = 'PNG'
#bpy.context.scene.render.file_extension = '.png'
bpy.context.scene.render.filepath = ''
"""

SPEC_ENDPOINTS = Endpoints(
    validate_job="/server/send_frame.php",
    request_job="/server/request_job.php",
    download_archive="/server/download.php",
    error="/server/error.php",
    keepmealive="/server/keepmealive.php",
    logout="/account.php?mode=logout&worker=1",
    max_period_s=1440,
)

SPEC_OFFER = JobOffer(
    job_id="1",
    use_gpu=True,
    archive_md5="11d046f9912267a29f99a731c7e4e3b0",
    revision="0",
    path="compute_method.blend",
    frame="0340",
    synchronous_upload=True,
    renderer=RendererOffer(
        md5="ceda00890578762c6fac96f1a13f671a",
        command_line=".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1",
        update_method="remainingtime",
    ),
    script=SPEC_SCRIPT,
    extras=None,
)

MD5_A = "0123456789abcdef0123456789abcdef"
MD5_B = "f" * 32

#: As terse as an offer can be.
BARE_OFFER = JobOffer(
    job_id="7",
    use_gpu=False,
    archive_md5=MD5_A,
    revision="3",
    path="a.blend",
    frame="12",
    renderer=RendererOffer(md5=MD5_B, command_line=".e -b .c -f .f"),
    script="",
)


def _each_status(kind: str, sample: bytes, message: type, codes: list[Any]) -> list[WireCase]:
    """The specification's sample once for each code it names, and for one that nobody knows."""
    return [
        WireCase(
            name=f"specification, {kind} {int(code)}",
            kind=kind,
            wire=sample.replace(b"X", str(int(code)).encode()),
            message=message(status=code),
        )
        for code in [*codes, 742]
    ]


SPECIFICATION = [
    WireCase(name="specification, config with a bare &", kind="sign-in", wire=SPEC_CONFIG,
             message=SignInAnswer(status=SignInStatus.OK, endpoints=SPEC_ENDPOINTS)),
    WireCase(name="specification, job with a script", kind="job", wire=SPEC_JOB,
             message=JobAnswer(status=JobStatus.OK, offer=SPEC_OFFER, frames_remaining=1187)),
    *_each_status("sign-in", SPEC_CONFIG_ERROR, SignInAnswer, [status for status in SignInStatus if status]),
    *_each_status("job", SPEC_JOB_ERROR, JobAnswer, [status for status in JobStatus if status]),
    *_each_status("validation", SPEC_VALIDATION, ValidationAnswer, list(ValidationStatus)),
    *_each_status("beat", SPEC_BEAT, BeatAnswer, list(BeatStatus)),
    *_each_status("error", SPEC_ERROR, ErrorAnswer, list(ErrorStatus)),
]  # fmt: skip

CANONICAL = [
    WireCase(
        name="config, well-formed",
        kind="sign-in",
        wire=DECLARATION + b'<config status="0">'
        b'<request type="validate-job" path="/server/send_frame.php"/>'
        b'<request type="request-job" path="/server/request_job.php"/>'
        b'<request type="download-archive" path="/server/download.php"/>'
        b'<request type="error" path="/server/error.php"/>'
        b'<request type="keepmealive" path="/server/keepmealive.php" max-period="1440"/>'
        b'<request type="logout" path="/account.php?mode=logout&amp;worker=1"/></config>',
        message=SignInAnswer(status=SignInStatus.OK, endpoints=SPEC_ENDPOINTS),
        canonical=True,
    ),
    WireCase(
        name="job with everything",
        kind="job",
        wire=DECLARATION + b'<jobrequest status="0"><frames remaining="0"/>'
        b'<job id="7" use_gpu="0" archive_md5="0123456789abcdef0123456789abcdef" revision="3" path="a/b&amp;c.blend" '
        b'frame="-0012" synchronous_upload="0" extras="" name=\'Sintel "4k"\'>'
        b'<renderer md5="ffffffffffffffffffffffffffffffff" commandline=".e -b .c" update_method="by_tile"/>'
        b"<script>  if a &lt; b &amp;&amp; c:\n\tpass&#13;\n\n</script></job>"
        b'<file md5="0123456789abcdef0123456789abcdef" action="delete"/></jobrequest>',
        message=JobAnswer(
            status=JobStatus.OK,
            frames_remaining=0,
            delete_archives=(MD5_A,),
            offer=JobOffer(
                job_id="7",
                use_gpu=False,
                archive_md5=MD5_A,
                revision="3",
                path="a/b&c.blend",
                frame="-0012",
                renderer=RendererOffer(md5=MD5_B, command_line=".e -b .c", update_method="by_tile"),
                script="  if a < b && c:\n\tpass\r\n\n",
                extras="",
                name='Sintel "4k"',
            ),
        ),
        canonical=True,
    ),
    WireCase(
        name="no job, with what later clients want to show",
        kind="job",
        wire=DECLARATION + b'<jobrequest status="200"><frames remaining="8"/><stats frame_remaining="8" '
        b'credits_total="0" credits_session="0" renderable_project="2" waiting_project="0" connected_machine="5"/>'
        b"</jobrequest>",
        message=JobAnswer(
            status=JobStatus.NO_JOB,
            frames_remaining=8,
            figures=ServerFigures(renderable_projects=2, connected_machines=5),
        ),
        canonical=True,
    ),
    WireCase(
        name="no job, archives to delete",
        kind="job",
        wire=DECLARATION + b'<jobrequest status="200"><file md5="0123456789abcdef0123456789abcdef" action="delete"/>'
        b'<file md5="ffffffffffffffffffffffffffffffff" action="delete"/></jobrequest>',
        message=JobAnswer(status=JobStatus.NO_JOB, delete_archives=(MD5_A, MD5_B)),
        canonical=True,
    ),
    WireCase(name="frame accepted", kind="validation", wire=DECLARATION + b'<jobvalidate status="0"/>',
             message=ValidationAnswer(status=ValidationStatus.OK), canonical=True),
    WireCase(name="stop", kind="beat", wire=DECLARATION + b'<keepmealive status="400"/>',
             message=BeatAnswer(status=BeatStatus.STOP), canonical=True),
    WireCase(name="report taken", kind="error", wire=DECLARATION + b'<error status="0"/>',
             message=ErrorAnswer(status=ErrorStatus.OK), canonical=True),
]  # fmt: skip

BARE_JOB = (
    b"<jobrequest status='0'><job frame='12' path='a.blend' id='7' revision='3'"
    b" archive_md5='0123456789ABCDEF0123456789abcdef'>"
    b"<renderer commandline='.e -b .c -f .f' md5='ffffffffffffffffffffffffffffffff'/></job></jobrequest>"
)
_MINIMAL_CONFIG = (
    '<config status="0"><request type="validate-job" path="v"/><request type="request-job" path="r"/>'
    '<request type="download-archive" path="d"/><request type="keepmealive" path="k"{period}/></config>'
)
MINIMAL_ENDPOINTS = Endpoints(
    validate_job="v", request_job="r", download_archive="d", keepmealive="k", error="", logout=""
)


def _beat(name: str, wire: bytes) -> WireCase:
    return WireCase(name=name, kind="beat", wire=wire, message=BeatAnswer(status=BeatStatus.OK))


def _script(name: str, wire: bytes, text: str) -> WireCase:
    """The bare job with a script of this wire form."""
    job = BARE_JOB.replace(b"</job>", b"<script>" + wire + b"</script></job>")
    offer = JobOffer(**{**vars(BARE_OFFER), "script": text})
    return WireCase(name=name, kind="job", wire=job, message=JobAnswer(status=JobStatus.OK, offer=offer))


def _period(text: str, seconds: int | None) -> WireCase:
    endpoints = Endpoints(**{**vars(MINIMAL_ENDPOINTS), "max_period_s": seconds})
    return WireCase(
        name=f"max-period {text!r}",
        kind="sign-in",
        wire=_MINIMAL_CONFIG.format(period=text).encode(),
        message=SignInAnswer(status=SignInStatus.OK, endpoints=endpoints),
    )


#: As other servers write it.
OTHER_HANDS = [
    _period("", None),
    _period(' max-period="900"', 900),
    _period(' max-period="soon"', None),
    _period(' max-period="-5"', None),
    _period(' max-period="0"', None),
    _period(' max-period=""', None),
    _period(f' max-period="{"9" * 5000}"', None),
    WireCase(
        name="a server that reads what is confirmed",
        kind="sign-in",
        wire=_MINIMAL_CONFIG.format(period="").replace('path="v"', 'path="v" confirmed="1"').encode(),
        message=SignInAnswer(
            status=SignInStatus.OK, endpoints=Endpoints(**{**vars(MINIMAL_ENDPOINTS), "reads_confirmed": True})
        ),
    ),
    WireCase(
        name="of two requests of one type the last wins",
        kind="sign-in",
        wire=_MINIMAL_CONFIG.format(period="").replace("<request", '<request type="request-job" path="old"/><request', 1)
        .encode(),
        message=SignInAnswer(status=SignInStatus.OK, endpoints=MINIMAL_ENDPOINTS),
    ),
    WireCase(name="as few attributes as can be, upper-case sum", kind="job", wire=BARE_JOB,
             message=JobAnswer(status=JobStatus.OK, offer=BARE_OFFER)),
    WireCase(
        name="unknown attributes and elements, an unusable count, a file to keep",
        kind="job",
        wire=BARE_JOB.replace(b"<job ", b"<frames remaining='many'/><new x='1'>y</new><file md5='?' action='keep'/>"
                              b"<job tempo='' colour='red' "),
        message=JobAnswer(status=JobStatus.OK, offer=BARE_OFFER),
    ),
    WireCase(name="an offer beside a refusal is none", kind="job", wire=BARE_JOB.replace(b"'0'", b"'200'", 1),
             message=JobAnswer(status=JobStatus.NO_JOB)),
    WireCase(name="an extras attribute that is empty", kind="job", wire=BARE_JOB.replace(b"<job ", b"<job extras='' "),
             message=JobAnswer(status=JobStatus.OK, offer=JobOffer(**{**vars(BARE_OFFER), "extras": ""}))),
    WireCase(name="yes in words", kind="job",
             wire=BARE_JOB.replace(b"<job ", b"<job use_gpu='true' synchronous_upload=' 1 ' "),
             message=JobAnswer(status=JobStatus.OK, offer=JobOffer(
                 **{**vars(BARE_OFFER), "use_gpu": True, "synchronous_upload": True}))),
    _script("script in CDATA keeps its ampersands", b"<![CDATA[if a & b < c:\n    x = '&amp;']]>",
            "if a & b < c:\n    x = '&amp;'"),
    _script("script with bare ampersands", b"a = b & c && d; e = '&lt;&#65;&copy;'", "a = b & c && d; e = '<A&copy;'"),
    _script("script with Windows line ends", b"a\r\nb\rc\n", "a\nb\nc\n"),
    _script("script of white space", b"\n    \t\n", "\n    \t\n"),
    _script("script in pieces", b"a<!-- & -->b<![CDATA[c]]>&#233;", "abc\u00e9"),
    _script("script in any alphabet", "print('\u00fc\u4f60\U0001f40f')".encode(), "print('\u00fc\u4f60\U0001f40f')"),
    _beat("byte order mark and white space before the declaration",
          b"\xef\xbb\xbf \r\n\t" + DECLARATION + b"<keepmealive status='0'/>"),
    _beat("white space before the byte order mark", b"\n\xef\xbb\xbf<keepmealive status='0'/>"),
    _beat("white space around the number", b"<keepmealive status=' 0\n'/>"),
    _beat("leading zeros", b"<keepmealive status='000'></keepmealive>\n\n"),
    _beat("UTF-16 with its mark", "<?xml version='1.0' encoding='utf-16'?><keepmealive status='0'/>".encode("utf-16")),
    _beat("UTF-16 without its mark", "<keepmealive status='0'/>".encode("utf-16-be")),
    _beat("said to be UTF-16, but is not", b"<?xml version='1.0' encoding='utf-16'?><keepmealive status='0'/>"),
    _beat("Latin-1", b"<?xml version='1.0' encoding='ISO-8859-1'?><keepmealive status='0' note='\xe9'/>"),
    _beat("a namespace of its own", b"<keepmealive xmlns='http://example.org/x' status='0'/>"),
    _beat("a comment before and after", b"<!-- hi --><keepmealive status='0'/><!-- & bye -->"),
    WireCase(name="a negative status", kind="beat", wire=b"<keepmealive status='-1'/>", message=BeatAnswer(status=-1)),
]  # fmt: skip

WIRE_CASES = [*SPECIFICATION, *CANONICAL, *OTHER_HANDS]
