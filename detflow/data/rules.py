"""What can be wrong with data: every kind of finding with what is done about it, stated once.

The rules are about three places: a dataset that make-records or check reads, a set of TFRecord
files that check reads, and a picture that somebody uploads to a server or hands to predict. A code
means the same kind of fault in each place; what is done about it may differ. `docs/repairs.md`
explains the rules for datasets to readers, and a test holds that page and this table together.

What readers of TFRecord files need was read in their code: Model Garden's
`official/vision/dataloaders/tf_example_decoder.py` (2.20) and the TF Object Detection API's
`object_detection/data_decoders/tf_example_decoder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MODEL_GARDEN, OD_API, DETFLOW = CONSUMERS = ("Model Garden", "TF OD API", "detflow")
"""Who reads TFRecord files with detection data."""


class Where(StrEnum):
    """What a finding is about."""

    DATASET = "dataset"
    """Annotations with their images."""

    RECORD = "record"
    """A set of TFRecord files."""

    UPLOAD = "upload"
    """A picture without an annotation."""


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The data cannot be used as they are: something is damaged, or a label would be wrong."""

    WARNING = "warning"
    """The data can be used, yet a person may want to know."""


class Action(StrEnum):
    """What is done about a finding."""

    REPAIRED = "repaired"
    """It is mended by a stated rule, and the sample is written."""

    QUARANTINED = "quarantined"
    """The annotation and its image are set aside; the run goes on."""

    REFUSED = "refused"
    """Nothing is written, or the data are not accepted, until a person has looked."""

    NOTED = "noted"
    """It is named and counted; nothing is changed."""

    @property
    def severity(self) -> Severity:
        """How bad a finding is that is treated so."""
        is_error = self in (Action.QUARANTINED, Action.REFUSED)
        return Severity.ERROR if is_error else Severity.WARNING


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding.

    Attributes:
        code: Its name, unique in its place.
        where: The place.
        action: What is done about it.
        meaning: What is wrong, as a clause: "the corners are in the wrong order".
        remedy: What was done, or what the user can do.
        blocks: The consumers of TFRecord files that cannot use a set with such a record.
    """

    code: str
    where: Where
    action: Action
    meaning: str
    remedy: str
    blocks: tuple[str, ...] = ()


_DATASET, _RECORD, _UPLOAD = Where.DATASET, Where.RECORD, Where.UPLOAD
_REPAIRED, _QUARANTINED = Action.REPAIRED, Action.QUARANTINED
_REFUSED, _NOTED = Action.REFUSED, Action.NOTED
_REWRITE = "write the set again from its source"

# One row a rule: the formatter would make ten lines of each.
# fmt: off
TABLE: tuple[Rule, ...] = (
    # --- A dataset: its XML files
    Rule("xml_doctype", _DATASET, _REFUSED,
         "a DOCTYPE can declare entities and name files", "remove the DOCTYPE or the file"),
    Rule("xml_malformed", _DATASET, _QUARANTINED,
         "the file is not well-formed XML", "correct the XML"),
    Rule("xml_too_large", _DATASET, _QUARANTINED,
         "the file is larger than an annotation can be", "check what it is, or remove it"),
    Rule("xml_not_voc", _DATASET, _NOTED,
         "the root element is not <annotation>, so this is no VOC annotation",
         "left out of every count"),
    Rule("xml_head_wrong", _DATASET, _REPAIRED,
         "the file does not begin as XML must", "read all the same"),
    Rule("encoding_wrong", _DATASET, _REPAIRED,
         "the file is not in the encoding that it declares", "read in the one that it is in"),
    Rule("tag_misspelt", _DATASET, _REPAIRED,
         "an element has another name than VOC's", "read as VOC's"),
    Rule("box_astray", _DATASET, _QUARANTINED,
         "a box is where it belongs to no object", "move it into an <object>, or remove it"),
    Rule("field_has_children", _DATASET, _QUARANTINED,
         "an element that holds a value has child elements", "correct the XML"),
    Rule("field_twice", _DATASET, _QUARANTINED,
         "a field stands twice, and nothing says which one counts", "remove one"),
    Rule("object_nested", _DATASET, _QUARANTINED,
         "an <object> is not a direct child of <annotation>", "move it up to <annotation>"),
    Rule("too_many_objects", _DATASET, _QUARANTINED,
         "the file has more objects than detflow reads", "split the image into tiles"),
    Rule("name_missing", _DATASET, _QUARANTINED,
         "an object has no class name", "name it or remove the object"),
    Rule("name_whitespace", _DATASET, _REPAIRED,
         "a class name has needless white space", "white space was collapsed"),
    Rule("name_unicode", _DATASET, _REPAIRED,
         "a class name has another Unicode form, or characters that nobody sees",
         "composed (NFC), and the invisible left out"),
    Rule("flag_unreadable", _DATASET, _REPAIRED,
         "a flag is neither 0 nor 1", "read as 0"),
    # --- A dataset: its files in other dialects
    Rule("file_too_large", _DATASET, _QUARANTINED,
         "the file is larger than detflow reads of its kind", "divide it"),
    Rule("file_malformed", _DATASET, _QUARANTINED,
         "the file is not what its extension says", "correct the file"),
    Rule("file_passed_over", _DATASET, _NOTED,
         "the file holds no boxes of its own", "left out of every count"),
    Rule("file_repeats", _DATASET, _NOTED,
         "other files hold every annotation of the file", "those were read"),
    Rule("dialect_passed_over", _DATASET, _NOTED,
         "annotations of another dialect speak of the same images", "--dialect reads them instead"),
    Rule("entry_malformed", _DATASET, _QUARANTINED,
         "a field is missing, or is not what the format has there", "correct it"),
    Rule("entry_twice", _DATASET, _QUARANTINED,
         "one id stands for two images", "number the images"),
    Rule("entry_orphan", _DATASET, _QUARANTINED,
         "objects belong to an image that the file does not list", "list it, or remove them"),
    Rule("id_twice", _DATASET, _NOTED,
         "an id stands twice, and nothing depends on it", "passed over"),
    Rule("class_id_unknown", _DATASET, _QUARANTINED,
         "nothing names the object's class", "name it where the classes are listed"),
    Rule("class_conflict", _DATASET, _QUARANTINED,
         "an object's class name and id contradict the label map",
         "bring the label map that belongs to the records"),
    Rule("class_id_twice", _DATASET, _REFUSED,
         "one number names two classes", "number the classes"),
    Rule("class_name_twice", _DATASET, _NOTED,
         "two numbers name one class", "read as one"),
    Rule("class_names_missing", _DATASET, _NOTED,
         "nothing names the classes", "called by their numbers; --classes names them"),
    Rule("video_unsupported", _DATASET, _QUARANTINED,
         "the file annotates a video, not images", "export it as CVAT for images 1.1"),
    Rule("shape_left_out", _DATASET, _NOTED,
         "points and lines enclose no object", "left out"),
    Rule("outline_boxed", _DATASET, _NOTED,
         "objects are outlines without a box", "the box around each was taken"),
    Rule("object_crowd", _DATASET, _NOTED,
         "objects are crowds", "kept; evaluation counts them neither as hits nor as misses"),
    Rule("box_not_normalised", _DATASET, _QUARANTINED,
         "a fraction of the image is far above 1", "divide pixels by the image's size"),
    # --- A dataset: boxes
    Rule("box_missing", _DATASET, _QUARANTINED,
         "an object has no complete <bndbox>", "draw the box or remove the object"),
    Rule("box_form", _DATASET, _REPAIRED,
         "the corners are not children of a <bndbox>", "read all the same"),
    Rule("box_from_outline", _DATASET, _REPAIRED,
         "the object has an outline and no <bndbox>", "the outline's axis-aligned hull was taken"),
    Rule("box_empty", _DATASET, _QUARANTINED,
         "all four corners are empty or nan",
         "write them; or, if the image has no object, remove the <object>"),
    Rule("object_deleted", _DATASET, _REPAIRED,
         "<deleted> says that the annotator took the object back", "the object was left out"),
    Rule("box_not_a_number", _DATASET, _QUARANTINED,
         "a box corner is not a finite decimal number", "correct the number"),
    Rule("box_inverted", _DATASET, _REPAIRED,
         "a minimum is greater than its maximum", "the two were exchanged"),
    Rule("box_zero_area", _DATASET, _REPAIRED,
         "the box has no area", "the object was left out"),
    Rule("box_clipped", _DATASET, _REPAIRED,
         "the box reaches out of the image", "it was cut at the image's edge"),
    Rule("box_outside", _DATASET, _REPAIRED,
         "the box lies wholly outside of the image", "the object was left out"),
    Rule("box_tiny", _DATASET, _NOTED,
         "the box is less than 2 pixels high or wide", "kept"),
    Rule("object_duplicate", _DATASET, _REPAIRED,
         "the same class and box stand twice in one image", "one of them was left out"),
    # --- A dataset: pairing
    Rule("path_unsafe", _DATASET, _REFUSED,
         "<filename> leaves the dataset", "write the image's plain name"),
    Rule("link_outside", _DATASET, _REFUSED,
         "a symbolic link or a key leads out of the dataset", "copy the file into the dataset"),
    Rule("file_unreadable", _DATASET, _QUARANTINED,
         "the file is there and cannot be read", "give the permission, or bring the file"),
    Rule("file_unseen", _DATASET, _NOTED,
         "the file cannot be opened, so nobody knows whether it is an annotation",
         "give the permission, or remove it"),
    Rule("folder_unreadable", _DATASET, _REFUSED,
         "the folder cannot be opened, so nobody knows what is missing",
         "give the permission, or move it out of the dataset"),
    Rule("paired_by_case", _DATASET, _REPAIRED,
         "<filename> differs from the image's name in case", "paired with the only such image"),
    Rule("paired_by_extension", _DATASET, _REPAIRED,
         "<filename> has another extension, or none", "paired with the only such image"),
    Rule("paired_by_path", _DATASET, _REPAIRED,
         "no image has the <filename>, one has the name at the end of <path>", "paired with it"),
    Rule("paired_by_stem", _DATASET, _REPAIRED,
         "no image has the <filename>, one has the annotation's own name", "paired with it"),
    Rule("paired_by_filename", _DATASET, _REPAIRED,
         "<filename> and the annotation's own name are two images' names",
         "paired with the one that <filename> names, which is no other annotation's own"),
    Rule("paired_by_size", _DATASET, _REPAIRED,
         "several images fit the annotation, and one of them has its <size>", "paired with it"),
    Rule("claim_stale", _DATASET, _REPAIRED,
         "<filename>, <path> or <folder> names another image than the annotation's own name",
         "paired with the image of its own name"),
    Rule("image_copies", _DATASET, _NOTED,
         "several images with the same bytes fit the annotation", "one of them was taken"),
    Rule("annotation_copy", _DATASET, _NOTED,
         "the file is a copy of another annotation of the same image", "left out of every count"),
    Rule("image_missing", _DATASET, _QUARANTINED,
         "no image belongs to the annotation", "add the image or remove the annotation"),
    Rule("image_ambiguous", _DATASET, _QUARANTINED,
         "several images fit the annotation", "write the right one into <filename>"),
    Rule("image_claimed_twice", _DATASET, _QUARANTINED,
         "another annotation claims the same image", "remove one, or correct its <filename>"),
    Rule("key_twice", _DATASET, _QUARANTINED,
         "two annotations have the same path but for the extension's case", "remove one"),
    Rule("image_unlabelled", _DATASET, _NOTED,
         "no annotation belongs to the image",
         "left out; an XML without objects makes it a negative"),
    Rule("no_objects", _DATASET, _NOTED,
         "the annotation has no objects", "kept as a negative"),
    Rule("decided", _DATASET, _NOTED,
         "a person has decided what the evidence leaves open", "done as --decisions says"),
    # --- A dataset: images
    Rule("image_undecodable", _DATASET, _QUARANTINED,
         "the image cannot be decoded completely", "replace the image"),
    Rule("image_unsupported", _DATASET, _QUARANTINED,
         "the image's format is not supported", "convert it to JPEG or PNG"),
    Rule("image_too_large", _DATASET, _REFUSED,
         "the image is larger than allowed", "shrink it, or raise --max-pixels"),
    Rule("image_transcoded", _DATASET, _REPAIRED,
         "not every consumer decodes this format alike", "transcoded to JPEG"),
    Rule("alpha_zero", _DATASET, _NOTED,
         "the image's alpha is 0 everywhere", "the colours count"),
    Rule("jpeg_extra_bytes", _DATASET, _NOTED,
         "the JPEG has what decoders only warn of, and every block is there", "left out"),
    Rule("image_shrunk", _DATASET, _NOTED,
         "the image's longer side is above --max-side", "smaller in the records"),
    Rule("extension_wrong", _DATASET, _NOTED,
         "the extension does not fit the content", "the content decides"),
    Rule("exif_applied", _DATASET, _REPAIRED,
         "EXIF asks for a turn, and the image was annotated as turned", "the pixels were turned"),
    Rule("exif_removed", _DATASET, _REPAIRED,
         "EXIF asks for a turn, and the image was annotated as stored",
         "the pixels stay, EXIF was removed"),
    Rule("exif_undecided", _DATASET, _QUARANTINED,
         "EXIF asks for a turn, and nothing tells whether the image was annotated so",
         "pass --exif follow or --exif ignore"),
    Rule("size_missing", _DATASET, _REPAIRED,
         "the annotation has no readable <size>", "taken from the pixels"),
    Rule("size_zero", _DATASET, _REPAIRED,
         "the annotation's <size> has a zero", "taken from the pixels"),
    Rule("size_swapped", _DATASET, _REPAIRED,
         "the annotation's <size> has width and height exchanged", "taken from the pixels"),
    Rule("size_wrong", _DATASET, _REPAIRED,
         "the annotation's <size> differs from the image", "taken from the pixels"),
    Rule("size_conflict", _DATASET, _QUARANTINED,
         "<size> and the image differ as two renditions of a picture do, and the boxes may belong "
         "to the other one",
         "restore the image that was annotated, or pass --scale-boxes"),
    Rule("boxes_far_outside", _DATASET, _QUARANTINED,
         "the boxes lie far outside of the image, so they were drawn on a larger rendition",
         "restore the image that was annotated"),
    Rule("boxes_fractions", _DATASET, _QUARANTINED,
         "all corners are between 0 and 1, so they are fractions of the sides and no pixels",
         "convert them, or pass --scale-boxes"),
    Rule("boxes_percent", _DATASET, _QUARANTINED,
         "no corner of the whole set is over 100, so they are percentages and no pixels",
         "convert them, or pass --scale-boxes; --corners says that they are pixels"),
    Rule("boxes_widths", _DATASET, _QUARANTINED,
         "over the whole set xmax and ymax hold width and height",
         "convert them, or pass --scale-boxes"),
    Rule("boxes_scaled", _DATASET, _REPAIRED,
         "the boxes were drawn on another rendition or in other units",
         "they were scaled to the image, as --scale-boxes asks"),
    # --- A dataset: classes and splits
    Rule("class_unknown", _DATASET, _REFUSED,
         "the class is not in the list of classes", "correct the name, or add it to --classes"),
    Rule("class_renamed", _DATASET, _NOTED,
         "the class has another name by --rename", "renamed as asked for"),
    Rule("class_rename_unused", _DATASET, _REFUSED,
         "no usable annotation has the class that --rename names", "correct the name"),
    Rule("split_unusable", _DATASET, _REFUSED,
         "a declared split cannot be used, and a seed must not decide in its place",
         "correct or remove the list, or choose with --split-by"),
    Rule("split_unused", _DATASET, _NOTED,
         "what looks like a declared split is not used", "rename it, or choose with --split-by"),
    Rule("split_unassigned", _DATASET, _QUARANTINED,
         "the declared splits leave the annotation out", "list it, or use --split-by seed"),
    Rule("split_entry_missing", _DATASET, _NOTED,
         "a split list names what is not there", "passed over"),
    Rule("split_entry_twice", _DATASET, _NOTED,
         "a split list names the same image twice", "written once"),
    Rule("split_near_leak", _DATASET, _NOTED,
         "nearly the same image is in another split", "look at both; evaluation may flatter"),
    Rule("class_near_miss", _DATASET, _NOTED,
         "the class's name resembles another one",
         "if it is a typing error, correct it"),
    Rule("split_empty", _DATASET, _NOTED,
         "a split has no image", "add images, or choose other fractions"),
    Rule("split_no_validation", _DATASET, _NOTED,
         "there are splits to train and to test on, and none to choose the best checkpoint by",
         "--val-from train=0.1 takes one from the training"),
    Rule("class_absent", _DATASET, _NOTED,
         "a split has no object of a class", "evaluation there says nothing of it"),
    Rule("image_duplicate", _DATASET, _NOTED,
         "the image has the same bytes as another", "both are kept, in one split"),
    Rule("image_near_duplicate", _DATASET, _NOTED,
         "the image is nearly the same as another",
         "both are kept; a seeded split keeps them together"),
    Rule("split_leak", _DATASET, _REFUSED,
         "the same image is in two splits", "remove it from one, or pass --allow-leaks"),
    Rule("split_leak_allowed", _DATASET, _NOTED,
         "the same image is in two splits, which --allow-leaks lets pass",
         "a score on the second one flatters"),
    # --- TFRecord files: the files
    Rule("compressed", _RECORD, _REFUSED,
         "the file is compressed, which no reader expects unasked", "unpack it", CONSUMERS),
    Rule("framing_damaged", _RECORD, _REFUSED,
         "what follows in the file cannot be read", _REWRITE, CONSUMERS),
    Rule("data_damaged", _RECORD, _REFUSED,
         "the record's checksum is wrong", _REWRITE, CONSUMERS),
    Rule("file_empty", _RECORD, _NOTED,
         "the file has no records", "remove it, or write it again"),
    Rule("shard_missing", _RECORD, _REFUSED,
         "the file's name promises more shards than are there",
         "bring the missing shards", CONSUMERS),
    Rule("manifest_damaged", _RECORD, _REFUSED,
         "the manifest cannot be used", "run detflow make-records again", (DETFLOW,)),
    Rule("manifest_disagrees", _RECORD, _REFUSED,
         "the file is not as the manifest describes it",
         "run detflow make-records again", (DETFLOW,)),
    Rule("label_map_damaged", _RECORD, _REFUSED,
         "the label map cannot be read", "correct it", (OD_API, DETFLOW)),
    Rule("label_maps_differ", _RECORD, _REFUSED,
         "the label maps beside the files give one id two names, or one name two ids",
         "write all files with one label map", CONSUMERS),
    # --- TFRecord files: records
    Rule("sample_refused", _RECORD, _REFUSED,
         "detflow cannot read the record", "run detflow make-records again", (DETFLOW,)),
    Rule("not_an_example", _RECORD, _REFUSED,
         "the record is no tf.Example with features", _REWRITE, CONSUMERS),
    Rule("field_missing", _RECORD, _REFUSED,
         "a field that every reader needs is missing", _REWRITE, CONSUMERS),
    Rule("field_recommended", _RECORD, _NOTED,
         "a field that some reader needs is missing", _REWRITE),
    Rule("field_type", _RECORD, _REFUSED,
         "a field has another type than readers declare", _REWRITE, CONSUMERS),
    Rule("field_count", _RECORD, _REFUSED,
         "a field does not have exactly one value", _REWRITE, CONSUMERS),
    Rule("lengths_differ", _RECORD, _REFUSED,
         "the lists of the objects' fields differ in length", _REWRITE, CONSUMERS),
    # --- TFRecord files: boxes
    Rule("box_not_finite", _RECORD, _REFUSED,
         "a box corner is not a finite number",
         "correct the annotation; the loss becomes NaN", CONSUMERS),
    Rule("box_not_normalised", _RECORD, _REFUSED,
         "a box is in pixels", "divide x by the width and y by the height", CONSUMERS),
    Rule("box_outside", _RECORD, _NOTED,
         "a box reaches out of the image", "clip it to 0…1", (DETFLOW,)),
    Rule("box_inverted", _RECORD, _REFUSED,
         "a box minimum is greater than its maximum",
         "correct the annotation; the loss becomes NaN", CONSUMERS),
    Rule("box_zero_area", _RECORD, _REFUSED,
         "a box has no area", "remove the object; the loss can become NaN", CONSUMERS),
    # --- TFRecord files: classes
    Rule("class_id_not_positive", _RECORD, _REFUSED,
         "a class id is below 1; 0 means background", "count classes from 1", CONSUMERS),
    Rule("class_id_unknown", _RECORD, _REFUSED,
         "a class id is not in the label map",
         "bring the label map that belongs to the set", CONSUMERS),
    Rule("class_conflict", _RECORD, _REFUSED,
         "class name and id do not agree", "write names and ids from one label map", CONSUMERS),
    # --- TFRecord files: images
    Rule("image_undecodable", _RECORD, _REFUSED,
         "the image cannot be decoded completely", "replace the image", CONSUMERS),
    Rule("image_format", _RECORD, _NOTED,
         "not every reader decodes this format alike", "transcode to JPEG", (MODEL_GARDEN, OD_API)),
    Rule("format_field", _RECORD, _NOTED,
         "image/format does not name the image's format", "write jpeg or png"),
    Rule("size_wrong", _RECORD, _REFUSED,
         "image/width and image/height are not the image's", _REWRITE, CONSUMERS),
    Rule("exif_orientation", _RECORD, _NOTED,
         "EXIF asks for a turn; some decoders follow it and some do not", "turn the pixels"),
    Rule("sha256_wrong", _RECORD, _REFUSED,
         "image/key/sha256 is not the image's", _REWRITE),
    Rule("no_objects", _RECORD, _NOTED,
         "no record has an object", "check whether the labels were lost"),
    # --- TFRecord files: names
    Rule("source_id_not_numeric", _RECORD, _NOTED,
         "image/source_id is not a number; evaluation parses it as one",
         "number the images", (MODEL_GARDEN,)),
    Rule("source_id_twice", _RECORD, _NOTED,
         "two images have one image/source_id; evaluation takes them for one",
         "number the images", (MODEL_GARDEN,)),
    Rule("image_twice", _RECORD, _NOTED,
         "the same image stands twice in a split", "remove one"),
    Rule("image_in_two_splits", _RECORD, _REFUSED,
         "the same image is in two splits, so a score on the second one lies", "remove one"),
    # --- A picture without an annotation
    Rule("image_undecodable", _UPLOAD, _REFUSED,
         "the image cannot be decoded completely", "replace the image"),
    Rule("image_unsupported", _UPLOAD, _REFUSED,
         "the image's format is not supported", "convert it to JPEG or PNG"),
    Rule("image_too_large", _UPLOAD, _REFUSED,
         "the image is larger than allowed", "shrink it"),
)
# fmt: on


def _select(where: Where) -> Mapping[str, Rule]:
    return {rule.code: rule for rule in TABLE if rule.where is where}


RULES = _select(Where.DATASET)
"""The rules for datasets by code."""

RECORD_RULES = _select(Where.RECORD)
"""The rules for TFRecord files by code."""

UPLOAD_RULES = _select(Where.UPLOAD)
"""The rules for pictures without annotations by code."""
